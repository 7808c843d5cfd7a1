//! Waits for the next value of a source, as long as that takes.

use super::{Client, ClientError, Value, of};
use http::{HeaderValue, Method, StatusCode};
use std::{collections::hash_map::RandomState, hash::BuildHasher, time::Duration};
use tokio::time::sleep;
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
    Removed,
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
            match self.ask().await {
                Ok(Some(news)) => return Ok(news),
                Ok(None) => {}
                Err(error) if error.is_passing() => self.pause(&error).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn ask(&mut self) -> Result<Option<News>, ClientError> {
        let path = of(&self.name, &format!("/value?wait={}s", WAIT.as_secs()));
        let answer = self.client.send(Method::GET, &path, self.known.as_ref(), WAIT).await;
        match answer {
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
                let was_known = self.known.take().is_some();
                match self.client.source(&self.name).await {
                    Ok(_) => {
                        (self.failures, self.is_known_there) = (0, true);
                        Ok(was_known.then_some(News::Removed))
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
        let whole = PAUSE.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures += 1;
        // Half of it by chance, so that many do not come back together.
        let share = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
        sleep(whole.mul_f64(0.5 + share / 2.0)).await;
    }
}
