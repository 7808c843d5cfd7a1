//! Fake host for unit tests of a plugin: in-memory files, scripted connections, canned responses.

use crate::{
    EndpointError, FileError, HttpError, Request, Response, Target,
    backend::Backend,
    connection::ConnectionBackend,
    file_watch::FileWatchBackend,
    http::{BodyBackend, Chunk},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

/// Fake host for unit tests of a plugin. It performs no I/O.
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
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Number of changes of each path. A watch compares this number with the number at its last call.
    changes: BTreeMap<String, u64>,
    scripts: VecDeque<Script>,
    targets: Vec<Target>,
    responses: VecDeque<Result<FakeResponse, HttpError>>,
    requests: Vec<Request>,
}

impl FakeHost {
    /// Creates a host without files, connections and responses.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates or replaces a file and notifies its watches.
    pub fn put_file(&self, path: &str, content: impl Into<Vec<u8>>) {
        let mut state = self.state.borrow_mut();
        state.files.insert(path.into(), content.into());
        *state.changes.entry(path.into()).or_default() += 1;
    }

    /// Removes a file and notifies its watches.
    pub fn remove_file(&self, path: &str) {
        let mut state = self.state.borrow_mut();
        state.files.remove(path);
        *state.changes.entry(path.into()).or_default() += 1;
    }

    /// Queues the script of a connection. Each connection consumes one script. Without a script, the
    /// connection attempt fails with "connection refused".
    pub fn next_connection(&self, script: Script) {
        self.state.borrow_mut().scripts.push_back(script);
    }

    /// Queues the response to a request. Each request consumes one response. Without a response, the
    /// request fails with "connection refused".
    pub fn next_response(&self, response: Result<FakeResponse, HttpError>) {
        self.state.borrow_mut().responses.push_back(response);
    }

    /// Returns the addresses of all connection attempts in order.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        self.state.borrow().targets.clone()
    }

    /// Returns all requests in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.state.borrow().requests.clone()
    }
}

impl Backend for FakeHost {
    fn read_file(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.state.borrow().files.get(path).cloned().ok_or(FileError::NotFound)
    }

    fn watch_file(&self, path: &str) -> Result<Box<dyn FileWatchBackend>, FileError> {
        let seen = self.state.borrow().changes.get(path).copied().unwrap_or_default();
        Ok(Box::new(FakeWatch { host: self.clone(), path: path.into(), seen }))
    }

    fn connect(
        &self,
        to: &Target,
        _timeout: Duration,
    ) -> Result<Box<dyn ConnectionBackend>, EndpointError> {
        let mut state = self.state.borrow_mut();
        state.targets.push(to.clone());
        let script = state.scripts.pop_front();
        script
            .map(|script| Box::new(script) as Box<dyn ConnectionBackend>)
            .ok_or_else(|| EndpointError::Failed("connection refused".into()))
    }

    fn send(&self, request: Request) -> Result<Response, HttpError> {
        let mut state = self.state.borrow_mut();
        state.requests.push(request);
        let response = state
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
    /// Returns immediately: a test performs its changes before the call.
    fn wait(&mut self, _timeout: Duration) -> Result<bool, FileError> {
        let now = self.host.state.borrow().changes.get(&self.path).copied().unwrap_or_default();
        Ok(std::mem::replace(&mut self.seen, now) != now)
    }
}

/// Scripted server side of a connection: the expected writes and the replies, in order.
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
    /// Creates an empty script: the first read finds the connection closed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects that the plugin writes exactly these bytes next, in one or several writes. The test panics
    /// on other bytes.
    #[must_use]
    pub fn expect(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push_back(Step::Expect(bytes.as_ref().to_vec()));
        self
    }

    /// Sends these bytes to the plugin.
    #[must_use]
    pub fn reply(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push_back(Step::Reply(bytes.as_ref().to_vec()));
        self
    }

    /// Lets one read of the plugin time out, without a real delay.
    #[must_use]
    pub fn silence(mut self) -> Self {
        self.steps.push_back(Step::Silence);
        self
    }

    /// Accepts and ignores all writes of the plugin on this connection. Do not combine with [`expect`](Self::expect).
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
                "the plugin wrote other bytes than the script expects"
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

/// Canned response to a request.
#[derive(Debug, Clone)]
pub struct FakeResponse {
    status: u16,
    headers: Vec<(String, String)>,
    chunks: Vec<Result<Chunk, HttpError>>,
}

impl FakeResponse {
    /// Creates a response with this status and an empty body.
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

    /// Adds a chunk of the body.
    #[must_use]
    pub fn chunk(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.chunks.push(Ok(Chunk::Bytes(bytes.into())));
        self
    }

    /// Lets one read of the body time out, without a real delay.
    #[must_use]
    pub fn silence(mut self) -> Self {
        self.chunks.push(Ok(Chunk::Nothing));
        self
    }

    /// Breaks the connection at this point of the body.
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
