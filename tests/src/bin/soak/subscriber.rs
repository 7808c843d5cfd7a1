//! Client of the event stream that resumes it after each interruption, and checks that no revision falls.

use crate::{api_client, environment::Environment, monitor::Revisions};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, ErrorKind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Timeout of each read. After it, the client checks whether the test has ended.
const READ_TIMEOUT: Duration = Duration::from_millis(500);
/// Delay before the client connects again.
const RECONNECT_DELAY: Duration = Duration::from_millis(200);

/// Client of the host's event stream that checks the received revisions.
#[derive(Default)]
pub(crate) struct Subscriber {
    revisions: Mutex<Revisions>,
}

impl Subscriber {
    /// Reads the stream until `done` is set.
    pub(crate) fn run(&self, environment: &Environment, done: &AtomicBool) {
        let mut last_id = String::new();
        while !done.load(Ordering::Relaxed) {
            self.read(environment, done, &mut last_id);
            thread::sleep(RECONNECT_DELAY);
        }
    }

    /// Reads one connection to its end.
    fn read(&self, environment: &Environment, done: &AtomicBool, last_id: &mut String) {
        let Some(address) = environment.api() else { return };
        let headers = if last_id.is_empty() {
            String::new()
        } else {
            format!("Last-Event-ID: {last_id}\r\n")
        };
        let stream = api_client::open(address, "/v1/events", &headers, READ_TIMEOUT);
        let Ok(stream) = stream else { return };
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while !done.load(Ordering::Relaxed) {
            match stream.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => {}
                // `line` may contain the beginning of a line. The next read appends the rest.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    // A new host process listens at another address. A killed process may not have closed this
                    // connection.
                    if environment.api() != Some(address) {
                        return;
                    }
                    continue;
                }
                Err(_) => return,
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if let Some(id) = text.strip_prefix("id: ") {
                id.clone_into(last_id);
            } else if let Some(data) = text.strip_prefix("data: ") {
                self.see(environment, data);
            }
        }
    }

    fn see(&self, environment: &Environment, data: &str) {
        let event: Value = serde_json::from_str(data).unwrap_or_default();
        let (Some(source), Some(revision)) = (event["source"].as_str(), event["revision"].as_u64())
        else {
            return;
        };
        let mut revisions = self.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(violation) = revisions.see("/v1/events", source, revision) {
            environment.violation(violation);
        }
    }

    /// Returns the revision of the last event of a source.
    pub(crate) fn revision(&self, source: &str) -> u64 {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner).of(source)
    }
}
