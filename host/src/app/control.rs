//! A local socket on which a running host is asked and told things: one JSON object a line, one request a
//! connection.
//!
//! Whoever may open the socket may do everything: it lies in the state's directory, which is the
//! operator's own (0700), and has the mode 0600.

use crate::{
    socket,
    text::tidy,
    wire::{HistoryEntry, RefusedValue, SourceStatus},
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};
use tracing::debug;

/// What a running host is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// How all sources are.
    Status,
    /// What a source's values were.
    History {
        /// The source.
        source: String,
    },
    /// What was not let through last of a source.
    Refused {
        /// The source.
        source: String,
    },
    /// One of them.
    Value {
        /// The source.
        source: String,
        /// Its revision; the present one if there is none.
        revision: Option<u64>,
    },
    /// To go back to an earlier value, and stay there.
    Rollback {
        /// The source.
        source: String,
        /// Its revision; the one before the present one if there is none.
        to: Option<u64>,
    },
    /// To follow the source again.
    Resume {
        /// The source.
        source: String,
    },
    /// To read a source now.
    Reload {
        /// The source.
        source: String,
    },
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Vec<SourceStatus>),
    /// To [`Request::History`], the newest first.
    History(Vec<HistoryEntry>),
    /// To [`Request::Refused`], if something was.
    Refused(Option<RefusedValue>),
    /// To [`Request::Value`].
    Value {
        /// The content, in base64.
        content: String,
        /// What it is, where the source says.
        media_type: Option<String>,
        /// Its revision.
        revision: u64,
    },
    /// It has been done.
    Done {
        /// What was done, for people.
        message: String,
    },
    /// It cannot be done.
    Error {
        /// Why, and what to do about it.
        message: String,
    },
}

/// Answers requests.
#[async_trait::async_trait]
pub(super) trait Answer: Send + Sync + 'static {
    /// What there is to say.
    async fn answer(&self, request: Request) -> Response;
}

/// The name of the socket, in the state's directory.
pub const SOCKET: &str = "control.sock";

/// Whoever asks has this long to say what, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer takes no longer: a rollback waits for the disk.
const ANSWER: Duration = Duration::from_secs(60);
/// So many are answered at a time.
const AT_ONCE: usize = 16;
/// A request is no longer, in bytes.
const REQUEST_MAX: u64 = 64 << 10;
/// An answer is no longer, in bytes: one value, and what is around it.
const RESPONSE_MAX: u64 = 512 << 20;

/// Listens until it is dropped.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Control {
    /// Listens at this path, which must be in a directory of the operator's own.
    ///
    /// # Errors
    ///
    /// When there is no socket to be had there; also when another host listens.
    pub(super) async fn listen(path: &Path, answer: Arc<dyn Answer>) -> io::Result<Self> {
        let listener = socket::listen(path).await?;
        let task = tokio::spawn(serve(listener, answer));
        Ok(Self { path: path.into(), task })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, answer: Arc<dyn Answer>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    if let Err(error) = exchange(stream, &*answer).await {
                        debug!("a request on the control socket came to nothing: {error}");
                    }
                    drop(place);
                });
            }
            // Too many files are open, for example: that may pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn exchange(stream: UnixStream, answer: &dyn Answer) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_MAX));
    within(PATIENCE, reader.read_line(&mut line)).await?;
    let response = match serde_json::from_str(&line) {
        Ok(request) => timeout(ANSWER, answer.answer(request)).await.unwrap_or_else(|_| {
            Response::Error { message: format!("it was not done within {ANSWER:?}") }
        }),
        Err(error) => Response::Error { message: format!("not a request: {error}") },
    };
    let mut bytes = serde_json::to_vec(&response)?;
    bytes.push(b'\n');
    within(PATIENCE, writer.write_all(&bytes)).await
}

async fn within<T>(limit: Duration, io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, io).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Why a running host could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no host runs with this state (`{}`: {error})", path.display())]
    NotThere {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Something went wrong on the way.
    #[error("asking the running host failed: {0}")]
    Io(#[from] io::Error),
    /// It has said no.
    #[error("{0}")]
    Refused(String),
}

/// Asks a running host.
///
/// # Errors
///
/// [`AskError`].
pub async fn ask(path: &Path, request: &Request) -> Result<Response, AskError> {
    let not_there = |error| AskError::NotThere { path: path.into(), error };
    let stream = within(PATIENCE, UnixStream::connect(path)).await.map_err(not_there)?;
    let (reader, mut writer) = stream.into_split();
    let mut bytes = serde_json::to_vec(request).map_err(io::Error::from)?;
    bytes.push(b'\n');
    within(PATIENCE, writer.write_all(&bytes)).await?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(RESPONSE_MAX));
    within(ANSWER + PATIENCE, reader.read_until(b'\n', &mut line)).await?;
    match serde_json::from_slice(&line).map_err(io::Error::from)? {
        Response::Error { message } => Err(AskError::Refused(tidy(&message))),
        response => Ok(response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Echo;

    #[async_trait::async_trait]
    impl Answer for Echo {
        async fn answer(&self, request: Request) -> Response {
            match request {
                Request::Resume { source } => Response::Done { message: source },
                _ => Response::Error { message: "no".into() },
            }
        }
    }

    #[tokio::test]
    async fn a_request_is_answered_and_what_is_none_is_refused_and_harms_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SOCKET);
        let control = Control::listen(&path, Arc::new(Echo)).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut garbage = UnixStream::connect(&path).await.unwrap();
        garbage.write_all(b"nonsense\n").await.unwrap();
        let mut said = String::new();
        garbage.read_to_string(&mut said).await.unwrap();
        assert!(said.contains("not a request"), "{said}");
        let silent = UnixStream::connect(&path).await.unwrap();
        let resume = Request::Resume { source: "app".into() };
        let done = Response::Done { message: "app".into() };
        assert_eq!(ask(&path, &resume).await.unwrap(), done);
        assert!(matches!(ask(&path, &Request::Status).await, Err(AskError::Refused(_))));
        drop(silent);
        drop(control);
        assert!(matches!(ask(&path, &resume).await, Err(AskError::NotThere { .. })));
    }

    #[tokio::test]
    async fn a_socket_that_was_left_is_taken_over_and_one_that_is_used_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SOCKET);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _control = Control::listen(&path, Arc::new(Echo)).await.unwrap();
        let second = Control::listen(&path, Arc::new(Echo)).await;
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
