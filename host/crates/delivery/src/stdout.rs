//! Values on standard output: one JSON object a line, or the content alone.

use super::{Delivered, Sink, SinkError, Update};
use async_trait::async_trait;
use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use reloader_engine::types::{Revision, SourceName};
use reloader_source::store::{State, Subscription};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::{
    io::{self, BufWriter, Write},
    sync::{Arc, LazyLock},
};
use tokio::sync::Mutex;

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One JSON object a line: `source`, `event`, `revision`, and what belongs to the event.
    #[default]
    Json,
    /// The content alone. A line end follows where it has none, so that values do not run together.
    Raw,
}

/// Writes a source's values, as they come.
#[derive(Debug)]
pub struct Stdout {
    source: SourceName,
    format: Format,
    written: State,
}

/// So much is written at once, in bytes: what a pipe takes.
const BUFFER: usize = 64 << 10;

/// A line, as it is written.
#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    event: &'static str,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_base64: Option<Encoded<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    at: String,
}

impl Stdout {
    /// For this source; nothing is written yet.
    #[must_use]
    pub fn new(source: SourceName, format: Format) -> Self {
        Self { source, format, written: State::default() }
    }

    /// Writes each state that the reader sees, until the source is stopped.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written to, also because nobody reads it any more.
    pub async fn run(mut self, mut reader: Subscription) -> io::Result<()> {
        while reader.changed().await.is_ok() {
            let state = reader.state();
            // A large value takes its time, and a pipe that nobody empties blocks this thread; and nobody
            // else.
            let written = tokio::task::spawn_blocking(move || {
                let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
                self.write(state, &mut out)?;
                out.flush()?;
                Ok(self)
            });
            self = written.await.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        }
        Ok(())
    }

    /// Writes what is to be written for this state, after what has been written before. A large value is
    /// not copied on its way.
    pub fn write<W: Write + ?Sized>(&mut self, state: State, out: &mut W) -> io::Result<()> {
        let before = std::mem::replace(&mut self.written, state);
        let now = &self.written;
        if self.format == Format::Raw {
            if let (true, Some(value)) = (now.revision > before.revision, &now.value) {
                out.write_all(&value.content)?;
                if !value.content.ends_with(b"\n") {
                    out.write_all(b"\n")?;
                }
            }
            return Ok(());
        }
        if now.revision > before.revision {
            // What was stale before is not, if there is something new.
            self.line(out, if now.value.is_some() { "changed" } else { "removed" }, None)?;
        }
        if let Some(refused) = &now.refused
            && !before.refused.is_some_and(|before| refused.is_again(&before))
        {
            self.line(out, "refused", Some((&refused.reason, refused.at)))?;
        }
        match (&before.stale, &now.stale) {
            (None, Some(stale)) => {
                self.line(out, "stale", Some((&stale.reason, stale.since)))?;
            }
            (Some(_), None) => self.line(out, "fresh", Some(("", Timestamp::now())))?,
            (None, None) | (Some(_), Some(_)) => {}
        }
        Ok(())
    }

    /// One line; `apart` is the reason and the time of an event that is none of the value.
    fn line<W: Write + ?Sized>(
        &self,
        out: &mut W,
        event: &'static str,
        apart: Option<(&str, Timestamp)>,
    ) -> io::Result<()> {
        let State { revision, value, at, .. } = &self.written;
        let value = value.as_ref().filter(|_| apart.is_none());
        let content = value.map(|value| std::str::from_utf8(&value.content));
        let line = Line {
            source: self.source.as_str(),
            event,
            revision: Revision::get(*revision),
            content: content.and_then(Result::ok),
            content_base64: match (content, value) {
                (Some(Err(_)), Some(value)) => Some(Encoded(&value.content)),
                _ => None,
            },
            media_type: value.and_then(|value| value.media_type.as_deref()),
            cursor: value.and_then(|value| value.cursor.as_ref().map(ToString::to_string)),
            reason: apart.map(|(reason, _)| reason).filter(|reason| !reason.is_empty()),
            at: format!("{:.6}", apart.map_or(*at, |(_, at)| at)),
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    }
}

/// Standard output as a sink among others.
#[derive(Debug)]
pub struct StdoutSink {
    format: Format,
}

/// Held by whoever writes, also when nobody waits for it any more: if nobody reads, one thread waits, and
/// not one for each sink.
static TURN: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

impl StdoutSink {
    /// In this format.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format }
    }
}

#[async_trait]
impl Sink for StdoutSink {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        let turn = Arc::clone(&TURN).lock_owned().await;
        let (format, update) = (self.format, update.clone());
        let writing = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
            for part in update.parts() {
                let state = State {
                    revision: part.revision,
                    value: part.value.clone(),
                    at: part.at,
                    stale: part.stale.clone(),
                    ..State::default()
                };
                Stdout::new(part.source.clone(), format).write(state, &mut out)?;
            }
            out.flush()
        });
        match writing.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => Ok(Delivered::Changed),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(SinkError::lasting("nobody reads standard output any more"))
            }
            Err(error) => {
                Err(SinkError::passing(format!("standard output cannot be written to: {error}")))
            }
        }
    }

    /// Whoever reads it now has not read what was written before the start.
    fn looks_itself(&self) -> bool {
        true
    }
}

/// Bytes that are encoded while they are written.
struct Encoded<'a>(&'a [u8]);

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reloader_engine::types::{Cursor, Snapshot};
    use reloader_source::store::store;
    use serde_json::{Value, json};

    fn written(stdout: &mut Stdout, state: State) -> Vec<u8> {
        let mut out = Vec::new();
        stdout.write(state, &mut out).expect("memory takes it");
        out
    }

    fn lines(out: &[u8]) -> Vec<Value> {
        out.split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let mut line: Value = serde_json::from_slice(line).expect("each line is JSON");
                let at = line["at"].as_str().expect("a time").to_owned();
                assert!(at.len() == "2026-01-02T03:04:05.678901Z".len(), "{at}");
                line.as_object_mut().expect("an object").remove("at");
                line
            })
            .collect()
    }

    #[test]
    fn each_event_is_a_line_with_what_belongs_to_it() {
        let (writer, mut reader) = store();
        let mut stdout = Stdout::new(SourceName::new("app"), Format::Json);
        writer.publish(
            1.into(),
            Some(Snapshot {
                media_type: Some("text/plain".into()),
                cursor: Some(Cursor::new("7")),
                ..Snapshot::new("a\nb")
            }),
        );
        assert_eq!(
            lines(&written(&mut stdout, reader.state())),
            [json!({ "source": "app", "event": "changed", "revision": 1, "content": "a\nb",
                "media_type": "text/plain", "cursor": "7" })]
        );
        writer.stale(Some("down".into()));
        assert_eq!(
            lines(&written(&mut stdout, reader.state())),
            [json!({ "source": "app", "event": "stale", "revision": 1, "reason": "down" })]
        );
        writer.stale(None);
        assert_eq!(
            lines(&written(&mut stdout, reader.state())),
            [json!({ "source": "app", "event": "fresh", "revision": 1 })]
        );
        writer.publish(2.into(), None);
        assert_eq!(
            lines(&written(&mut stdout, reader.state())),
            [json!({ "source": "app", "event": "removed", "revision": 2 })]
        );
    }

    #[test]
    fn what_is_refused_is_said_once_and_is_not_shown() {
        let (writer, mut reader) = store();
        let mut stdout = Stdout::new(SourceName::new("app"), Format::Json);
        writer.publish(1.into(), Some(Snapshot::new("good")));
        written(&mut stdout, reader.state());
        let mut refuse = |value: &'static str, reason: &str| {
            writer.refused(Snapshot::new(value), reason.into(), None);
            lines(&written(&mut stdout, reader.state()))
        };
        let refused =
            json!({ "source": "app", "event": "refused", "revision": 1, "reason": "no port" });
        assert_eq!(refuse("bad", "no port"), [refused]);
        assert!(refuse("bad", "no port").is_empty(), "tried again, and refused again");
        assert_eq!(refuse("bad", "no name")[0]["reason"], json!("no name"));
        assert_eq!(refuse("worse", "no name").len(), 1);
    }

    #[test]
    fn what_is_not_text_is_base64() {
        let (writer, mut reader) = store();
        let mut stdout = Stdout::new(SourceName::new("app"), Format::Json);
        writer.publish(1.into(), Some(Snapshot::new(vec![0xff, 0x00])));
        let line = &lines(&written(&mut stdout, reader.state()))[0];
        assert_eq!((&line["content_base64"], &line["content"]), (&json!("/wA="), &Value::Null));
    }

    #[test]
    fn a_slow_reader_gets_the_newest_value_and_that_it_is_stale() {
        let (writer, mut reader) = store();
        let mut stdout = Stdout::new(SourceName::new("app"), Format::Json);
        writer.publish(1.into(), Some(Snapshot::new("old")));
        writer.publish(2.into(), Some(Snapshot::new("new")));
        writer.stale(Some("down".into()));
        let lines = lines(&written(&mut stdout, reader.state()));
        let events: Vec<_> = lines.iter().map(|line| (&line["event"], &line["revision"])).collect();
        assert_eq!(events, [(&json!("changed"), &json!(2)), (&json!("stale"), &json!(2))]);
    }

    #[test]
    fn raw_is_the_content_alone() {
        let (writer, mut reader) = store();
        let mut stdout = Stdout::new(SourceName::new("app"), Format::Raw);
        writer.publish(1.into(), Some(Snapshot::new("a")));
        assert_eq!(written(&mut stdout, reader.state()), b"a\n");
        writer.stale(Some("down".into()));
        assert_eq!(written(&mut stdout, reader.state()), b"");
        writer.publish(2.into(), Some(Snapshot::new("b\n")));
        assert_eq!(written(&mut stdout, reader.state()), b"b\n");
    }
}
