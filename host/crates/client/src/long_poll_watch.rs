//! Watch of a source: long polling of its next value.

use crate::{
    client::{Client, source_path},
    client_error::ClientError,
    value_response::Value,
};
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use reloader_util::backoff;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::warn;

/// Watch of a source. It requests the next value by long polling, and retries after failures.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    name: String,
    /// `ETag` of the last received value. A long poll waits for another one.
    known: Option<HeaderValue>,
    /// Number of consecutive failed requests.
    failures: u32,
    /// Set once the host has returned the value or the status of the source.
    has_seen_source: bool,
}

/// Change of the value of a watched source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// New value.
    Value(Value),
    /// The source no longer has a value.
    Removed {
        /// Revision of the removal.
        revision: u64,
        /// Time of the removal, if the host knows it.
        at: Option<Timestamp>,
    },
}

/// Duration of a long poll: without a new value, the host answers after this time.
const LONG_POLL_TIMEOUT: Duration = Duration::from_secs(60);
/// Initial delay of the exponential backoff after a failure. Also the delay, with jitter, after a long poll that
/// returns without a change in less than this time.
const INITIAL_BACKOFF: Duration = Duration::from_millis(250);
/// Maximum delay of the exponential backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

impl Client {
    /// Returns a watch of a source: its current value, then each change.
    #[must_use]
    pub fn watch(&self, name: &str) -> Watch {
        Watch::new(self.clone(), name)
    }
}

impl Watch {
    fn new(client: Client, name: &str) -> Self {
        Self { client, name: name.into(), known: None, failures: 0, has_seen_source: false }
    }

    /// Waits for the next change and returns it. The first call returns the current value, as soon as there is one.
    /// While the host does not answer, the request is retried with exponential backoff. Changes that are missed
    /// during that time are coalesced.
    ///
    /// # Errors
    ///
    /// Fails if a retry cannot succeed: for example, the token is invalid, or the value may not be read. An unknown
    /// source is an error only if this watch has not received the source from the host before.
    pub async fn next(&mut self) -> Result<Change, ClientError> {
        loop {
            let started = Instant::now();
            match self.poll().await {
                Ok(Some(news)) => return Ok(news),
                // Limits the request rate to a server that ignores `wait` and answers immediately.
                Ok(None) if started.elapsed() < INITIAL_BACKOFF => {
                    sleep(backoff::equal_jitter(INITIAL_BACKOFF)).await;
                }
                Ok(None) => {}
                Err(error) if self.is_transient(&error) => self.back_off(&error).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns whether a retry may succeed. Once the host has returned the source, an error in the TLS files counts as
    /// transient, because another program may be replacing the files.
    fn is_transient(&self, error: &ClientError) -> bool {
        error.is_transient() || self.has_seen_source && matches!(error, ClientError::InvalidTls(_))
    }

    /// Sends one long poll. Returns `None` if nothing has changed.
    async fn poll(&mut self) -> Result<Option<Change>, ClientError> {
        let path =
            source_path(&self.name, &format!("/value?wait={}s", LONG_POLL_TIMEOUT.as_secs()));
        match self.client.get(&path, self.known.as_ref(), LONG_POLL_TIMEOUT).await {
            Ok(response) if response.status == StatusCode::NOT_MODIFIED => {
                self.failures = 0;
                Ok(None)
            }
            Ok(response) => {
                let value = Value::from_response(response)?;
                (self.failures, self.has_seen_source) = (0, true);
                self.known.clone_from(&value.etag);
                Ok(Some(Change::Value(value)))
            }
            // Status 404: the source has no value, or does not exist. The status of the source tells which.
            Err(ClientError::ErrorResponse { status: 404, detail }) => {
                match self.client.source(&self.name).await {
                    Ok(source) => {
                        (self.failures, self.has_seen_source) = (0, true);
                        // The state `waiting` is not a removal: after a restart of the host, the source has no
                        // value yet.
                        let is_removed = source.status.state == "removed";
                        let was_known = is_removed && self.known.take().is_some();
                        let (revision, at) = (source.status.revision, source.status.at);
                        Ok(was_known.then_some(Change::Removed { revision, at }))
                    }
                    // The source was removed from the configuration, and may be added again.
                    Err(ClientError::ErrorResponse { status: 404, .. }) if self.has_seen_source => {
                        Err(ClientError::RequestFailed(detail))
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Waits before the next retry. Logs the first failure of a series.
    async fn back_off(&mut self, error: &ClientError) {
        if self.failures == 0 {
            warn!(source = self.name, %error, "request to the API of the running host failed, retrying");
        }
        let delay = backoff::exponential_with_jitter(INITIAL_BACKOFF, MAX_BACKOFF, self.failures);
        self.failures += 1;
        sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reloader_api_types::{Problem, SourceCounters, SourceDetail, SourceStatus};
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// Starts a server that sends these answers, one for each connection. Returns a client of the server.
    fn host(answers: Vec<String>) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().expect("a client connects");
                let mut lines = BufReader::new(&stream).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                (&stream).write_all(answer.as_bytes()).expect("the client reads");
            }
        });
        Client::new(&format!("http://{address}")).expect("a valid address")
    }

    fn answer(status: u16, headers: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status} .\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
    }

    fn value(revision: u64, content: &str) -> String {
        let headers = format!("reloader-revision: {revision}\r\netag: \"{revision}\"\r\n");
        answer(200, &headers, content)
    }

    fn not_found(detail: &str) -> String {
        let problem = Problem {
            kind: "about:blank".into(),
            title: "Not Found".into(),
            status: 404,
            detail: detail.into(),
        };
        answer(404, "", &serde_json::to_string(&problem).expect("the answer is serialisable"))
    }

    fn source(state: &str, revision: u64) -> String {
        let detail = SourceDetail {
            status: SourceStatus {
                name: "app".into(),
                plugin: "file".into(),
                state: state.into(),
                pinned: None,
                revision,
                at: None,
                last_success_at: None,
                error: None,
                sinks: Vec::new(),
            },
            strategy: "hybrid".into(),
            readable: true,
            media_type: None,
            size: None,
            granted: Vec::new(),
            denied: Vec::new(),
            activity: Vec::new(),
            counters: SourceCounters {
                changes: 0,
                removals: 0,
                rejected_values: 0,
                reads: 0,
                read_failures: 0,
                watches: 0,
                watch_failures: 0,
                crashes: 0,
                denied_accesses: 0,
                cpu_seconds: 0.0,
                memory: 0,
                reaction_seconds: None,
            },
        };
        answer(200, "", &serde_json::to_string(&detail).expect("the answer is serialisable"))
    }

    /// Returns the revisions of the changes that a watch reports for these answers. For a removal,
    /// returns the negated revision.
    async fn revisions(answers: Vec<String>, count: usize) -> Vec<i64> {
        let mut watch = host(answers).watch("app");
        let mut revisions = Vec::new();
        for _ in 0..count {
            revisions.push(match watch.next().await.expect("no permanent failure") {
                Change::Value(value) => value.revision.cast_signed(),
                Change::Removed { revision, .. } => -revision.cast_signed(),
            });
        }
        revisions
    }

    #[tokio::test]
    async fn missing_value_after_restart_is_no_removal() {
        let answers = vec![
            value(3, "one"),
            not_found("source `app` has no value"),
            source("waiting", 0),
            value(4, "two"),
        ];
        assert_eq!(revisions(answers, 2).await, [3, 4]);
    }

    /// The status request after the first `404` fails with 503. The watch retries, and then reports the removal once.
    #[tokio::test]
    async fn removal_is_reported_once_after_failure() {
        let answers = vec![
            value(3, "one"),
            not_found("source `app` has no value"),
            answer(503, "", ""),
            not_found("source `app` has no value"),
            source("removed", 4),
            not_found("source `app` has no value"),
            source("removed", 4),
            value(5, "two"),
        ];
        assert_eq!(revisions(answers, 3).await, [3, -4, 5]);
    }

    #[tokio::test]
    async fn answer_of_other_server_is_permanent_failure() {
        let mut watch = host(vec![answer(200, "", "<html>")]).watch("app");
        let error = watch.next().await.expect_err("not a host");
        assert!(matches!(error, ClientError::InvalidResponse(_)), "{error}");
    }
}
