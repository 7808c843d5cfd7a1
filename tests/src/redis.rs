//! Redis servers for tests.

use crate::{
    certificates::{Authority, Identity},
    free_port::free_port,
    requirements::{find_program, have},
    wait::wait_until,
};
use std::{
    fs,
    io::Write,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// Redis server on a free port, without persistence unless the options enable it. It is killed on
/// drop.
pub struct Redis {
    directory: TempDir,
    port: u16,
    /// Port for TLS; 0 without TLS.
    tls_port: u16,
    password: Option<String>,
    options: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// Starts a server, or returns `None` if `redis-server` is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts a server with additional command line options.
    #[must_use]
    pub fn start_with(options: &[&str]) -> Option<Self> {
        if !have("redis-server") {
            return None;
        }
        let password = options
            .iter()
            .position(|option| *option == "--requirepass")
            .map(|at| options[at + 1].to_owned());
        let mut redis = Self {
            directory: tempfile::tempdir().unwrap(),
            port: free_port(),
            tls_port: 0,
            password,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            child: None,
        };
        redis.launch();
        Some(redis)
    }

    /// Starts a server that also accepts TLS on a second port. If `clients` is given, that port
    /// requires client certificates of this authority.
    #[must_use]
    pub fn start_secure(identity: &Identity, clients: Option<&Authority>) -> Option<Self> {
        let mut redis = Self::start()?;
        redis.tls_port = free_port();
        redis.set_identity(identity, clients);
        assert_eq!(
            redis.cli(&["CONFIG", "SET", "tls-port", &redis.tls_port.to_string()]).trim(),
            "OK"
        );
        Some(redis)
    }

    /// Replaces the server certificate and closes the open connections.
    pub fn set_identity(&self, identity: &Identity, clients: Option<&Authority>) {
        let write = |name: &str, content: &str| {
            let path = self.directory.path().join(name);
            fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let certificate = write("server.pem", &identity.certificate);
        let key = write("server.key", &identity.key);
        let ca = clients.map_or_else(|| identity.certificate.clone(), Authority::pem);
        let ca = write("clients.pem", &ca);
        let auth = if clients.is_some() { "yes" } else { "no" };
        let command = ["CONFIG", "SET", "tls-cert-file", &certificate, "tls-key-file", &key];
        let command = [&command[..], &["tls-ca-cert-file", &ca, "tls-auth-clients", auth]].concat();
        assert_eq!(self.cli(&command).trim(), "OK");
        self.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }

    /// Starts or restarts the server on the same port, with its saved data.
    pub fn launch(&mut self) {
        let child = Command::new(find_program("redis-server").unwrap())
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .args(["--appendonly", "no", "--dir"])
            .arg(self.directory.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_until("redis answers", || self.cli(&["PING"]).trim() == "PONG");
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Runs a command with `redis-cli` and returns its output.
    pub fn cli(&self, command: &[&str]) -> String {
        self.cli_as(self.password.as_deref().unwrap_or_default(), command)
    }

    /// Like [`cli`](Self::cli), with another password than the server was started with.
    pub fn cli_as(&self, password: &str, command: &[&str]) -> String {
        let mut cli = Command::new(find_program("redis-cli").unwrap());
        cli.args(["-p", &self.port.to_string()]).args(command).stderr(Stdio::null());
        if !password.is_empty() {
            cli.env("REDISCLI_AUTH", password);
        }
        String::from_utf8(cli.output().unwrap().stdout).unwrap()
    }

    /// Sets a key.
    pub fn set(&self, key: &str, value: &str) {
        assert_eq!(self.cli(&["SET", key, value]).trim(), "OK");
    }

    /// Sets a key to a value that is too long for a command line.
    pub fn set_long(&self, key: &str, value: &str) {
        let mut cli = Command::new(find_program("redis-cli").unwrap());
        cli.args(["-p", &self.port.to_string(), "-x", "SET", key]);
        let mut child = cli.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Returns the server's URL as an argument of `--set`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("url=redis://127.0.0.1:{}", self.port)
    }

    /// Returns the server's TLS URL with this host name as an argument of `--set`.
    #[must_use]
    pub fn secure_url(&self, host: &str) -> String {
        format!("url=rediss://{host}:{}", self.tls_port)
    }

    /// Returns the process ID of the server.
    ///
    /// # Panics
    ///
    /// If the server is not running.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
