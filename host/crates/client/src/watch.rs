//! Waits for the next value of a source, as long as that takes.

use super::{Client, ClientError, Value, of};
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use reloader_util::backoff;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::warn;

/// A source is asked for its next value, again and again.
#[derive(Debug)]
pub struct Watching {
    client: Client,
    name: String,
    known: Option<HeaderValue>,
    /// So many times in a row there was no answer.
    failures: u32,
    /// Whether there has been one.
    is_known_there: bool,
}

/// What is new of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It has this value.
    Value(Value),
    /// It has none any more.
    Removed {
        /// What counts as its revision.
        revision: u64,
        /// Since when, if that is known.
        at: Option<Timestamp>,
    },
}

/// The host is to answer after so long, also if there is nothing new.
const WAIT: Duration = Duration::from_secs(60);
/// The first pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Watching {
    pub(super) fn new(client: Client, name: &str) -> Self {
        Self { client, name: name.into(), known: None, failures: 0, is_known_there: false }
    }

    /// The next value: at first the present one, as soon as there is one. While the host does not answer
    /// it is asked again, with growing pauses; what has changed meanwhile is told then.
    ///
    /// # Errors
    ///
    /// What will not go away by itself: a token that is not good for it, a value that is not to be read,
    /// and at first also that there is no such source.
    pub async fn next(&mut self) -> Result<News, ClientError> {
        loop {
            let asked = Instant::now();
            match self.ask().await {
                Ok(Some(news)) => return Ok(news),
                // Nobody is asked without a pause, also who does not let wait.
                Ok(None) if asked.elapsed() < PAUSE => sleep(backoff::equal_jitter(PAUSE)).await,
                Ok(None) => {}
                Err(error) if self.passes(&error) => self.pause(&error).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Files that were read once are there again soon.
    fn passes(&self, error: &ClientError) -> bool {
        error.is_passing() || self.is_known_there && matches!(error, ClientError::Tls(_))
    }

    async fn ask(&mut self) -> Result<Option<News>, ClientError> {
        let path = of(&self.name, &format!("/value?wait={}s", WAIT.as_secs()));
        match self.client.get(&path, self.known.as_ref(), WAIT).await {
            Ok(answer) if answer.status == StatusCode::NOT_MODIFIED => {
                self.failures = 0;
                Ok(None)
            }
            Ok(answer) => {
                let value = Value::of(answer)?;
                (self.failures, self.is_known_there) = (0, true);
                self.known.clone_from(&value.etag);
                Ok(Some(News::Value(value)))
            }
            // There is no value, or no such source.
            Err(ClientError::Refused { status: 404, detail }) => {
                match self.client.source(&self.name).await {
                    Ok(source) => {
                        (self.failures, self.is_known_there) = (0, true);
                        // After a restart it may have none yet, which says nothing.
                        let is_removed = source.status.state == "removed";
                        let was_known = is_removed && self.known.take().is_some();
                        let (revision, at) = (source.status.revision, source.status.at);
                        Ok(was_known.then_some(News::Removed { revision, at }))
                    }
                    // It is not configured any more, and may be again.
                    Err(ClientError::Refused { status: 404, .. }) if self.is_known_there => {
                        Err(ClientError::Failed(detail))
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn pause(&mut self, error: &ClientError) {
        if self.failures == 0 {
            warn!(source = self.name, "is asked again until there is an answer: {error}");
        }
        let pause = backoff::exponential_with_jitter(PAUSE, PAUSE_MAX, self.failures);
        self.failures += 1;
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reloader_api_types::{Problem, SourceDetail, SourceStatus, Totals};
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// A host that says just this, one after the other.
    fn host(answers: Vec<String>) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().expect("somebody asks");
                let mut lines = BufReader::new(&stream).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                (&stream).write_all(answer.as_bytes()).expect("it is taken");
            }
        });
        Client::new(&format!("http://{address}")).expect("an address")
    }

    fn answer(status: u16, headers: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status} .\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
    }

    fn value(revision: u64, content: &str) -> String {
        let headers = format!("reloader-revision: {revision}\r\netag: \"{revision}\"\r\n");
        answer(200, &headers, content)
    }

    fn none(what: &str) -> String {
        let problem = Problem {
            kind: "about:blank".into(),
            title: "Not Found".into(),
            status: 404,
            detail: what.into(),
        };
        answer(404, "", &serde_json::to_string(&problem).expect("it is sent"))
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
                trouble: None,
                sinks: Vec::new(),
            },
            strategy: "hybrid".into(),
            readable: true,
            media_type: None,
            size: None,
            granted: Vec::new(),
            refused: Vec::new(),
            activity: Vec::new(),
            counters: Totals {
                changes: 0,
                removals: 0,
                refused_values: 0,
                reads: 0,
                read_failures: 0,
                watches: 0,
                watch_failures: 0,
                crashes: 0,
                refused_accesses: 0,
                cpu_seconds: 0.0,
                memory: 0,
                reaction_seconds: None,
            },
        };
        answer(200, "", &serde_json::to_string(&detail).expect("it is sent"))
    }

    /// What is told of these answers, each as its revision, and a removal as one below nought.
    async fn told(answers: Vec<String>, count: usize) -> Vec<i64> {
        let mut watching = host(answers).watch("app");
        let mut told = Vec::new();
        for _ in 0..count {
            told.push(match watching.next().await.expect("it passes") {
                News::Value(value) => value.revision.cast_signed(),
                News::Removed { revision, .. } => -revision.cast_signed(),
            });
        }
        told
    }

    #[tokio::test]
    async fn a_host_that_has_no_value_yet_after_its_start_has_removed_none() {
        let answers = vec![
            value(3, "one"),
            none("source `app` has no value"),
            source("waiting", 0),
            value(4, "two"),
        ];
        assert_eq!(told(answers, 2).await, [3, 4]);
    }

    #[tokio::test]
    async fn a_removal_is_told_once_also_when_the_way_is_lost_in_between() {
        let answers = vec![
            value(3, "one"),
            none("source `app` has no value"),
            answer(503, "", ""),
            none("source `app` has no value"),
            source("removed", 4),
            none("source `app` has no value"),
            source("removed", 4),
            value(5, "two"),
        ];
        assert_eq!(told(answers, 3).await, [3, -4, 5]);
    }

    #[tokio::test]
    async fn what_is_no_host_is_not_asked_again() {
        let mut watching = host(vec![answer(200, "", "<html>")]).watch("app");
        let error = watching.next().await.expect_err("it is none");
        assert!(matches!(error, ClientError::Answer(_)), "{error}");
    }
}
