//! Environment of one soak test: directory, servers, the running host, and the violations found so far.
#![allow(clippy::print_stdout, reason = "violations are printed when they are found")]

use crate::{
    api_client, configuration,
    host::Host,
    host_log::HostLog,
    random::Rng,
    sources::{PROBE, Source, Stores},
    state_disk::StateDisk,
    value_server::ValueServer,
};
use e2e::{Redis, TestHost};
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Maximum number of violations that are stored.
const MAX_VIOLATIONS: usize = 100;
/// Interval between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Environment of one soak test.
pub(crate) struct Environment {
    pub(crate) server: ValueServer,
    pub(crate) redis: Option<Mutex<Redis>>,
    pub(crate) redis_port: Option<u16>,
    pub(crate) log: Arc<HostLog>,
    pub(crate) state_disk: Option<StateDisk>,
    sources: Mutex<Vec<Arc<Source>>>,
    host: Mutex<Option<Host>>,
    violations: Mutex<Vec<String>>,
    pub(crate) t: TestHost,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Environment {
    /// Writes the configuration and the first values. The host is not running yet.
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let t = TestHost::new();
        configuration::write_files(&t);
        let redis = Redis::start();
        let redis_port = redis.as_ref().map(Redis::port);
        let environment = Self {
            server: ValueServer::start(),
            redis: redis.map(Mutex::new),
            redis_port,
            log: Arc::new(HostLog::new(&t.path("host.log"))),
            state_disk: StateDisk::mount(&t.path("state")),
            sources: Mutex::new(configuration::initial_sources(redis_port.is_some())),
            host: Mutex::new(None),
            violations: Mutex::default(),
            t,
        };
        for source in environment.sources() {
            environment.t.write(&format!("in/{}", source.name), "");
            environment.stores().change(&source, rng);
        }
        environment.stores().make_valid(&environment.sources(), rng);
        environment.write_configuration("");
        environment
    }

    pub(crate) fn sources(&self) -> Vec<Arc<Source>> {
        lock(&self.sources).clone()
    }

    pub(crate) fn add_source(&self, source: Source) {
        lock(&self.sources).push(Arc::new(source));
    }

    pub(crate) fn remove_source(&self, name: &str) {
        lock(&self.sources).retain(|source| source.name != name);
    }

    pub(crate) fn stores(&self) -> Stores<'_> {
        Stores { t: &self.t, redis: self.redis.as_ref(), server: &self.server }
    }

    /// Writes the configuration of the present sources, followed by `more`.
    pub(crate) fn write_configuration(&self, more: &str) {
        let text = configuration::text(&self.sources(), &self.server, self.redis_port);
        self.t.replace("reloader.toml", text + more);
    }

    pub(crate) fn host(&self) -> MutexGuard<'_, Option<Host>> {
        lock(&self.host)
    }

    /// Returns the process ID of the running host.
    pub(crate) fn host_id(&self) -> Option<u32> {
        self.host().as_ref().map(Host::id)
    }

    /// Starts the host.
    pub(crate) fn start_host(&self) {
        *self.host() = Some(Host::start(&self.t, &self.log));
    }

    /// Returns the address of the API of the running host.
    pub(crate) fn api(&self) -> Option<SocketAddr> {
        self.log.api()
    }

    /// Sends a GET request to the running host and returns the body.
    ///
    /// # Errors
    ///
    /// If the host does not answer in time, or answers with another status than 200.
    pub(crate) fn get(&self, path: &str, timeout: Duration) -> Result<String, String> {
        let address = self.api().ok_or("the API does not listen")?;
        match api_client::get(address, path, timeout) {
            Ok((200, body)) => Ok(body),
            Ok((status, _)) => Err(format!("status {status}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Stops the Redis server, unmounts the state disk, and returns the directory, which is not deleted.
    pub(crate) fn keep(self) -> PathBuf {
        drop(self.state_disk);
        self.t.keep()
    }

    /// Records a violation of a checked rule, and prints it.
    pub(crate) fn violation(&self, text: String) {
        println!("VIOLATION: {text}");
        let mut violations = lock(&self.violations);
        if violations.len() < MAX_VIOLATIONS {
            violations.push(text);
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// Waits until a condition is true. Returns the waiting time.
    ///
    /// # Errors
    ///
    /// If the condition is not true within `timeout`, or the host has exited.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        timeout: Duration,
        mut is_so: impl FnMut() -> bool,
    ) -> Result<Duration, String> {
        let start = Instant::now();
        while !is_so() {
            if let Some(status) = self.host().as_mut().and_then(Host::exit_status) {
                return Err(format!("{what}: the host has exited: {status}"));
            }
            if start.elapsed() > timeout {
                return Err(format!("{what}: not within {timeout:?}"));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(start.elapsed())
    }

    /// Changes the source [`PROBE`] and waits until the new value is delivered.
    ///
    /// # Errors
    ///
    /// If the value is not delivered within `timeout`.
    pub(crate) fn probe(&self, timeout: Duration) -> Result<Duration, String> {
        let sources = self.sources();
        let probe = sources
            .iter()
            .find(|source| source.name == PROBE)
            .expect("the source is never removed");
        let value = self.stores().replace_file(probe);
        let out = self.t.path(&format!("out/{PROBE}"));
        let delivered = || fs::read_to_string(&out).is_ok_and(|content| content == value);
        self.wait_until("a new value of the source `probe` is delivered", timeout, delivered)
    }
}
