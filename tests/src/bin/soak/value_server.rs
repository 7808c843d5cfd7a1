//! HTTP server of the soak test: values with event streams and long polls, and a receiver of webhooks. Its behaviour
//! can be switched to stalls, errors and closed connections.

use e2e::hostile::{Server, tcp};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Maximum duration of a long poll.
const LONG_POLL_TIMEOUT: Duration = Duration::from_secs(20);
/// Interval of the comments that keep an event stream alive.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Behaviour of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers requests normally.
    Normal,
    /// Accepts connections and answers nothing.
    Stall,
    /// Answers each request with status 503.
    Error,
    /// Closes each connection without an answer.
    Close,
}

/// HTTP server. It serves until the process exits.
pub(crate) struct ValueServer {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    behaviour: Behaviour,
    /// Value and number of changes by source.
    values: BTreeMap<String, (String, u64)>,
    /// Revision and content of the last webhook by source.
    webhooks: BTreeMap<String, (u64, String)>,
    failures: Vec<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change of the state, at most `timeout`.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl ValueServer {
    pub(crate) fn start() -> Self {
        let state = State {
            behaviour: Behaviour::Normal,
            values: BTreeMap::new(),
            webhooks: BTreeMap::new(),
            failures: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        Self { server: tcp(move |stream| serve(&serving, stream)), shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    pub(crate) fn set(&self, source: &str, value: &str) {
        let mut state = self.shared.state();
        let (content, changes) = state.values.entry(source.into()).or_default();
        value.clone_into(content);
        *changes += 1;
        drop(state);
        self.shared.changed.notify_all();
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.shared.state().behaviour = behaviour;
        self.shared.changed.notify_all();
    }

    /// Returns the content of the last webhook of a source.
    pub(crate) fn webhook(&self, source: &str) -> Option<String> {
        self.shared.state().webhooks.get(source).map(|(_, content)| content.clone())
    }

    /// Returns and removes the violations that the server has seen.
    pub(crate) fn take_failures(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().failures)
    }
}

/// Serves one request. Each connection is closed afterwards.
fn serve(shared: &Shared, stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (method, path) = (method.to_owned(), path.to_owned());
    let (mut length, mut known) = (0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "if-none-match" => value.trim().clone_into(&mut known),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut state = shared.state();
    while state.behaviour == Behaviour::Stall {
        state = shared.wait(state, Duration::from_secs(1));
    }
    let behaviour = state.behaviour;
    drop(state);
    match behaviour {
        Behaviour::Close => return Ok(()),
        Behaviour::Error => return respond(stream, "503 Service Unavailable", "", ""),
        Behaviour::Normal | Behaviour::Stall => {}
    }
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "hook", source] if method == "POST" => {
            receive_webhook(shared, source, &body);
            respond(stream, "204 No Content", "", "")
        }
        ["", "value", source] => send_value(shared, stream, source, &known, Duration::ZERO),
        ["", "poll", source] => send_value(shared, stream, source, &known, LONG_POLL_TIMEOUT),
        ["", "events", source] => send_events(shared, stream, source),
        _ => respond(stream, "404 Not Found", "", ""),
    }
}

fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(response.as_bytes())
}

/// Sends a value, or status 304 if the client already has this value and the value does not change within `wait`.
fn send_value(
    shared: &Shared,
    stream: &mut TcpStream,
    source: &str,
    known: &str,
    wait: Duration,
) -> io::Result<()> {
    let start = Instant::now();
    let mut state = shared.state();
    let (value, etag) = loop {
        let Some((value, changes)) = state.values.get(source) else {
            drop(state);
            return respond(stream, "404 Not Found", "", "");
        };
        let etag = format!("\"{changes}\"");
        if known != etag {
            break (value.clone(), etag);
        }
        let left = wait.saturating_sub(start.elapsed());
        if left.is_zero() || state.behaviour != Behaviour::Normal {
            drop(state);
            return respond(stream, "304 Not Modified", &format!("etag: {etag}\r\n"), "");
        }
        state = shared.wait(state, left);
    };
    drop(state);
    respond(stream, "200 OK", &format!("etag: {etag}\r\ncontent-type: text/plain\r\n"), &value)
}

/// Sends an event for each change of a value until the client closes the connection.
fn send_events(shared: &Shared, stream: &mut TcpStream, source: &str) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: open\n\n")?;
    let mut sent = None;
    let mut last_write = Instant::now();
    loop {
        let state = shared.state();
        let changes = state.values.get(source).map(|(_, changes)| *changes);
        let behaviour = state.behaviour;
        match behaviour {
            Behaviour::Close | Behaviour::Error => return Ok(()),
            Behaviour::Normal if changes != sent => {
                drop(state);
                sent = changes;
                stream.write_all(b"data: changed\n\n")?;
                last_write = Instant::now();
            }
            Behaviour::Normal if last_write.elapsed() >= PING_INTERVAL => {
                drop(state);
                stream.write_all(b": ping\n\n")?;
                last_write = Instant::now();
            }
            Behaviour::Normal | Behaviour::Stall => drop(shared.wait(state, PING_INTERVAL)),
        }
    }
}

/// Stores a webhook and checks that the revision has not fallen.
fn receive_webhook(shared: &Shared, source: &str, body: &[u8]) {
    let event: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut state = shared.state();
    let revision = event["revision"].as_u64().unwrap_or_default();
    let content = event["content"].as_str().unwrap_or_default().to_owned();
    let before = state.webhooks.insert(source.into(), (revision, content));
    if let Some((before, _)) = before
        && before > revision
    {
        let failure = format!("webhook of {source}: revision {revision} after {before}");
        state.failures.push(failure);
    }
}
