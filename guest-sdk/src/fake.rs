//! A host for a plugin's unit tests: files in memory, scripted connections, answered requests.

use crate::{
    EndpointError, FileError, Host, HttpError, Request, Response, Target,
    host::{Backend, ConnectionBackend, FileWatchBackend},
    http::{BodyBackend, Chunk},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

/// A host for a plugin's unit tests. Nothing it does leaves the test.
///
/// ```
/// use guest_sdk::{FakeHost, FileError};
///
/// let fake = FakeHost::new();
/// fake.put_file("app.toml", "a = 1");
/// let host = fake.host();
/// assert_eq!(host.read_file("app.toml"), Ok(b"a = 1".to_vec()));
/// assert_eq!(host.read_file("other.toml"), Err(FileError::NotFound));
/// ```
#[derive(Clone, Default)]
pub struct FakeHost {
    world: Rc<RefCell<World>>,
}

#[derive(Default)]
struct World {
    files: BTreeMap<String, Vec<u8>>,
    /// Counts a path's changes, so that a watch knows whether it has seen the last one.
    changes: BTreeMap<String, u64>,
    scripts: VecDeque<Script>,
    targets: Vec<Target>,
    responses: VecDeque<Result<FakeResponse, HttpError>>,
    requests: Vec<Request>,
}

impl FakeHost {
    /// A host with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The handle that a plugin is given.
    #[must_use]
    pub fn host(&self) -> Host {
        Host::new(self.clone())
    }

    /// Creates or replaces a file. Whoever watches it is told.
    pub fn put_file(&self, path: &str, content: impl Into<Vec<u8>>) {
        let mut world = self.world.borrow_mut();
        world.files.insert(path.into(), content.into());
        *world.changes.entry(path.into()).or_default() += 1;
    }

    /// Removes a file. Whoever watches it is told.
    pub fn remove_file(&self, path: &str) {
        let mut world = self.world.borrow_mut();
        world.files.remove(path);
        *world.changes.entry(path.into()).or_default() += 1;
    }

    /// What the next connection says. Without a script, connecting is refused.
    pub fn next_connection(&self, script: Script) {
        self.world.borrow_mut().scripts.push_back(script);
    }

    /// What the next request is answered with. Without one, it fails.
    pub fn next_response(&self, response: Result<FakeResponse, HttpError>) {
        self.world.borrow_mut().responses.push_back(response);
    }

    /// Where the plugin connected to, in order.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        self.world.borrow().targets.clone()
    }

    /// What the plugin requested, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.world.borrow().requests.clone()
    }
}

impl Backend for FakeHost {
    fn read_file(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.world.borrow().files.get(path).cloned().ok_or(FileError::NotFound)
    }

    fn watch_file(&self, path: &str) -> Result<Box<dyn FileWatchBackend>, FileError> {
        let seen = self.world.borrow().changes.get(path).copied().unwrap_or_default();
        Ok(Box::new(FakeWatch { host: self.clone(), path: path.into(), seen }))
    }

    fn connect(
        &self,
        to: &Target,
        _timeout: Duration,
    ) -> Result<Box<dyn ConnectionBackend>, EndpointError> {
        let mut world = self.world.borrow_mut();
        world.targets.push(to.clone());
        let script = world.scripts.pop_front();
        script
            .map(|script| Box::new(script) as Box<dyn ConnectionBackend>)
            .ok_or_else(|| EndpointError::Failed("connection refused".into()))
    }

    fn send(&self, request: Request) -> Result<Response, HttpError> {
        let mut world = self.world.borrow_mut();
        world.requests.push(request);
        let response = world
            .responses
            .pop_front()
            .unwrap_or_else(|| Err(HttpError::Failed("connection refused".into())))?;
        Ok(Response::new(response.status, response.headers, FakeBody(response.chunks.into())))
    }
}

struct FakeWatch {
    host: FakeHost,
    path: String,
    seen: u64,
}

impl FileWatchBackend for FakeWatch {
    /// Never waits: in a test, what is to happen has happened.
    fn wait(&mut self, _timeout: Duration) -> Result<bool, FileError> {
        let now = self.host.world.borrow().changes.get(&self.path).copied().unwrap_or_default();
        Ok(std::mem::replace(&mut self.seen, now) != now)
    }
}

/// What the other side of a connection expects and says, in order.
///
/// ```
/// use guest_sdk::{FakeHost, Script, Target};
/// use std::{io::{Read, Write}, time::Duration};
///
/// let fake = FakeHost::new();
/// fake.next_connection(Script::new().expect("PING\r\n").reply("+PONG\r\n"));
/// let target = Target { host: "localhost".into(), port: 6379, tls: false };
/// let mut connection = fake.host().connect(&target, Duration::from_secs(1)).unwrap();
/// connection.write_all(b"PING\r\n").unwrap();
/// let mut answer = String::new();
/// connection.read_to_string(&mut answer).unwrap();
/// assert_eq!(answer, "+PONG\r\n");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Script {
    steps: VecDeque<Step>,
    heedless: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Expect(Vec<u8>),
    Reply(Vec<u8>),
    Silence,
}

impl Script {
    /// An empty script: the connection is closed as soon as it is read.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The plugin must write exactly this next, in one or several writes.
    #[must_use]
    pub fn expect(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push_back(Step::Expect(bytes.as_ref().to_vec()));
        self
    }

    /// The other side says this.
    #[must_use]
    pub fn reply(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push_back(Step::Reply(bytes.as_ref().to_vec()));
        self
    }

    /// One read that waits for nothing and times out.
    #[must_use]
    pub fn silence(mut self) -> Self {
        self.steps.push_back(Step::Silence);
        self
    }

    /// Whatever the plugin writes is taken, and changes nothing of what the other side says.
    #[must_use]
    pub fn heedless(mut self) -> Self {
        self.heedless = true;
        self
    }
}

impl ConnectionBackend for Script {
    fn read(&mut self, max: usize, _timeout: Duration) -> Result<Vec<u8>, EndpointError> {
        match self.steps.front_mut() {
            None => Err(EndpointError::Closed),
            Some(Step::Expect(_)) => Err(EndpointError::TimedOut),
            Some(Step::Silence) => {
                self.steps.pop_front();
                Err(EndpointError::TimedOut)
            }
            Some(Step::Reply(bytes)) => {
                let rest = bytes.split_off(max.min(bytes.len()));
                let now = std::mem::replace(bytes, rest);
                if bytes.is_empty() {
                    self.steps.pop_front();
                }
                Ok(now)
            }
        }
    }

    fn write(&mut self, written: &[u8], _timeout: Duration) -> Result<(), EndpointError> {
        if self.heedless {
            return Ok(());
        }
        let mut written = written;
        while !written.is_empty() {
            let Some(Step::Expect(expected)) = self.steps.front_mut() else {
                panic!("unexpected write: {:?}", String::from_utf8_lossy(written));
            };
            let length = expected.len().min(written.len());
            assert_eq!(
                String::from_utf8_lossy(&expected[..length]),
                String::from_utf8_lossy(&written[..length]),
                "the plugin wrote something else than the script expects"
            );
            expected.drain(..length);
            if expected.is_empty() {
                self.steps.pop_front();
            }
            written = &written[length..];
        }
        Ok(())
    }
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub struct FakeResponse {
    status: u16,
    headers: Vec<(String, String)>,
    chunks: Vec<Result<Chunk, HttpError>>,
}

impl FakeResponse {
    /// A response with this status and no body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), chunks: Vec::new() }
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Adds a piece of the body.
    #[must_use]
    pub fn chunk(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.chunks.push(Ok(Chunk::Bytes(bytes.into())));
        self
    }

    /// One read that waits for nothing and times out.
    #[must_use]
    pub fn silence(mut self) -> Self {
        self.chunks.push(Ok(Chunk::Nothing));
        self
    }

    /// The connection is lost at this point of the body.
    #[must_use]
    pub fn broken(mut self, why: &str) -> Self {
        self.chunks.push(Err(HttpError::Failed(why.into())));
        self
    }
}

struct FakeBody(VecDeque<Result<Chunk, HttpError>>);

impl BodyBackend for FakeBody {
    fn chunk(&mut self, _timeout: Duration) -> Result<Chunk, HttpError> {
        self.0.pop_front().unwrap_or(Ok(Chunk::End))
    }
}
