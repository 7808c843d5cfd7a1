//! Sink that writes values to standard output: as JSON lines, or as raw content.

use super::event_json::EventJson;
use crate::{
    delivery_values::Update,
    serial_blocking_jobs::{BlockingJobs, BlockingOperation, POOL},
    sink::{Delivered, Sink, SinkError},
};
use async_trait::async_trait;
use jiff::Timestamp;
use reloader_engine::types::SourceName;
use reloader_source::latest_value::{SourceState, Subscription};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    io::{self, BufWriter, Write},
    sync::LazyLock,
};

/// Output format of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One JSON object per line: `source`, `event`, `revision`, and the fields of the event.
    #[default]
    Json,
    /// The raw content, followed by a line feed unless it ends with one.
    Raw,
}

/// Settings of the standard output sink.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StdoutSettings {
    /// Output format: `json`, one object per line; or `raw`, the content only. Default: `json`.
    #[serde(default)]
    pub format: Format,
}

/// Writer of the values and events of one source.
#[derive(Debug)]
pub struct Stdout {
    source: SourceName,
    format: Format,
    written: SourceState,
}

/// Size of the output buffer, in bytes: the capacity of a pipe.
const OUTPUT_BUFFER_BYTES: usize = 64 << 10;

impl Stdout {
    /// Returns a writer for `source` that has written nothing yet.
    #[must_use]
    pub fn new(source: SourceName, format: Format) -> Self {
        Self { source, format, written: SourceState::default() }
    }

    /// Writes the latest state after each change, until the source stops.
    ///
    /// # Errors
    ///
    /// Returns an error if writing fails, e.g. because the program that reads standard output has closed it.
    pub async fn run(mut self, mut reader: Subscription) -> io::Result<()> {
        while reader.changed().await.is_ok() {
            let state = reader.state();
            // Writing to a full pipe blocks, so it happens on a blocking thread.
            let written = POOL.spawn(move || {
                let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
                self.write(state, &mut out)?;
                out.flush()?;
                io::Result::Ok(self)
            });
            self = written.await.unwrap_or_else(|error| Err(error.into()))?;
        }
        Ok(())
    }

    /// Writes the events between the previously written state and `state`. Does not copy the content.
    ///
    /// # Errors
    ///
    /// Returns the error of `out`.
    pub fn write<W: Write + ?Sized>(&mut self, state: SourceState, out: &mut W) -> io::Result<()> {
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
            self.line(out, if now.value.is_some() { "changed" } else { "removed" }, None)?;
        }
        if let Some(rejected) = &now.rejected
            && !before.rejected.is_some_and(|before| rejected.is_repeat_of(&before))
        {
            self.line(out, "rejected", Some((&rejected.reason, rejected.at)))?;
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

    /// Writes one line. `status_event` is the reason and the time of an event without a value.
    fn line<W: Write + ?Sized>(
        &self,
        out: &mut W,
        event: &'static str,
        status_event: Option<(&str, Timestamp)>,
    ) -> io::Result<()> {
        let SourceState { revision, value, at, .. } = &self.written;
        let value = value.as_ref().filter(|_| status_event.is_none());
        let at = status_event.map_or(*at, |(_, at)| at);
        let mut line = EventJson::new(&self.source, event, *revision, value, at);
        line.cursor = value.and_then(|value| value.cursor.as_ref().map(ToString::to_string));
        line.reason = status_event.map(|(reason, _)| reason).filter(|reason| !reason.is_empty());
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    }
}

/// Sink that writes values to the standard output of the host.
#[derive(Debug)]
pub struct StdoutSink {
    format: Format,
}

/// Writes of all `stdout` sinks, run one at a time, so that a full pipe blocks only one thread.
static WRITES: LazyLock<BlockingJobs> = LazyLock::new(BlockingJobs::default);

impl StdoutSink {
    /// Returns a sink that writes in `format`.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format }
    }
}

#[async_trait]
impl Sink for StdoutSink {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        let (format, update) = (self.format, update.clone());
        let operation = BlockingOperation::new(
            "writing to standard output",
            "the program that reads it may have stopped reading",
        );
        let writing = WRITES.run(operation, move |()| {
            let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
            for part in update.parts() {
                let state = SourceState {
                    revision: part.revision,
                    value: part.value.clone(),
                    at: part.at,
                    stale: part.stale.clone(),
                    ..SourceState::default()
                };
                Stdout::new(part.source.clone(), format).write(state, &mut out)?;
            }
            out.flush()
        });
        match writing.await.unwrap_or_else(|error| Err(error.into())) {
            Ok(()) => Ok(Delivered::Changed),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(SinkError::permanent("standard output is closed"))
            }
            Err(error) => {
                Err(SinkError::transient(format!("cannot write to standard output: {error}")))
            }
        }
    }

    /// Returns `true`, so that the values are written again after each start of the host: the new reader of standard
    /// output has not seen earlier output.
    fn detects_unchanged(&self) -> bool {
        true
    }

    fn blocking_operation(&self) -> Option<BlockingOperation> {
        WRITES.operation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reloader_engine::types::{Cursor, Snapshot};
    use reloader_source::latest_value::store;
    use serde_json::{Value, json};

    fn written(stdout: &mut Stdout, state: SourceState) -> Vec<u8> {
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
    fn each_event_is_one_json_line() {
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
    fn rejected_value_is_reported_once_without_content() {
        let (writer, mut reader) = store();
        let mut stdout = Stdout::new(SourceName::new("app"), Format::Json);
        writer.publish(1.into(), Some(Snapshot::new("good")));
        written(&mut stdout, reader.state());
        let mut reject = |value: &'static str, reason: &str| {
            writer.rejected(Snapshot::new(value), reason.into(), None);
            lines(&written(&mut stdout, reader.state()))
        };
        let rejected =
            json!({ "source": "app", "event": "rejected", "revision": 1, "reason": "no port" });
        assert_eq!(reject("bad", "no port"), [rejected]);
        assert!(reject("bad", "no port").is_empty(), "the same rejection again");
        assert_eq!(reject("bad", "no name")[0]["reason"], json!("no name"));
        assert_eq!(reject("worse", "no name").len(), 1);
    }

    #[test]
    fn binary_content_is_base64() {
        let (writer, mut reader) = store();
        let mut stdout = Stdout::new(SourceName::new("app"), Format::Json);
        writer.publish(1.into(), Some(Snapshot::new(vec![0xff, 0x00])));
        let line = &lines(&written(&mut stdout, reader.state()))[0];
        assert_eq!((&line["content_base64"], &line["content"]), (&json!("/wA="), &Value::Null));
    }

    #[test]
    fn skipped_values_are_coalesced() {
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
    fn raw_format_writes_content_only() {
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
