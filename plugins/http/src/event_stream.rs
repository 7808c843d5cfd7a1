//! Watching by server-sent events.

use crate::{
    address::Address,
    client::{Client, Reply},
    patience::Patience,
    sse::Parser,
    status::refusal,
};
use guest_sdk::{Chunk, Event, Failure, Response};
use std::time::Duration;

/// How long one call waits for the next bytes.
const WAIT: Duration = Duration::from_secs(30);

/// A stream of events that is open.
///
/// Where it was left off is not kept: a new stream is opened by a new instance, and the host reads
/// the value whenever that happens, so there is nothing to catch up on.
pub(crate) struct EventStream {
    from: Address,
    response: Response,
    parser: Parser,
    /// How long it may be silent before it counts as lost.
    silence: Option<Duration>,
    /// How long it has been silent.
    quiet: Duration,
}

impl EventStream {
    /// Opens it. A server that has answered has also begun to listen for changes: from then on
    /// nothing is missed.
    ///
    /// # Errors
    ///
    /// When the answer is anything but a stream of events.
    pub(crate) fn open(
        client: &Client,
        url: &Address,
        patience: &Patience,
        silence: Option<Duration>,
    ) -> Result<Self, Failure> {
        // Whoever compresses waits for more to compress; an event is not to wait.
        let accept = |_: &Address| {
            let fields = [("accept", "text/event-stream"), ("accept-encoding", "identity")];
            fields.map(|(name, value)| (name.into(), value.into())).into()
        };
        let Some(Reply { response, from }) = client.get(url, patience, &accept)? else {
            return Err(Failure::transient(format_args!("`{url}` did not answer in time")));
        };
        if response.status != 200 {
            return Err(refusal(&response, &[200]).context(format_args!("`{from}`")));
        }
        let media_type = response.header("content-type").unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("text/event-stream") {
            return Err(Failure::permanent(format_args!(
                "`{from}` gives no server-sent events: its content type is `{media_type}`, not \
                 `text/event-stream`"
            )));
        }
        let parser = Parser::default();
        Ok(Self { from, response, parser, silence, quiet: Duration::ZERO })
    }

    /// Waits for an event.
    ///
    /// Bytes without one, such as a comment, show that the stream is alive. Silence shows nothing: a
    /// connection that was cut in the middle is as silent as a source that does not change. So either
    /// the operator says how much of it is normal, or the host looks for itself.
    ///
    /// # Errors
    ///
    /// When the stream has ended, or was silent for too long.
    pub(crate) fn next(&mut self) -> Result<Event, Failure> {
        let wait = match self.silence {
            Some(silence) => silence.saturating_sub(self.quiet).min(WAIT),
            None => WAIT,
        };
        match self.response.chunk(wait) {
            Ok(Chunk::Bytes(bytes)) => {
                self.quiet = Duration::ZERO;
                Ok(if self.parser.feed(&bytes) > 0 { Event::Dirty } else { Event::Alive })
            }
            Ok(Chunk::Nothing) => {
                self.quiet += wait;
                match self.silence {
                    Some(silence) if self.quiet >= silence => {
                        Err(self.lost(format_args!("silent for {} seconds", silence.as_secs())))
                    }
                    Some(_) => Ok(Event::Alive),
                    None => Ok(Event::Dirty),
                }
            }
            Ok(Chunk::End) => Err(self.lost("the server ended the stream")),
            Err(error) => Err(self.lost(error)),
        }
    }

    fn lost(&self, why: impl std::fmt::Display) -> Failure {
        let message = format!("`{}`: {why}", self.from);
        match self.parser.retry() {
            Some(pause) => Failure::retry_after(message, pause),
            None => Failure::transient(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use guest_sdk::{Event, FailureKind, FakeHost, FakeResponse, RealtimeWatch};
    use std::time::Duration;

    const SSE: &str = r#"{"url": "https://example.com/value", "watch": "sse"}"#;

    fn stream() -> FakeResponse {
        FakeResponse::new(200).header("content-type", "Text/Event-Stream; charset=utf-8")
    }

    /// The source, watching a stream.
    fn watching(settings: &str, stream: FakeResponse) -> crate::Url {
        let fake = FakeHost::new();
        fake.next_response(Ok(stream));
        let mut source = source(&fake, settings);
        source.watch(None).unwrap();
        source
    }

    #[test]
    fn an_event_makes_the_host_read_and_a_comment_is_a_sign_of_life() {
        let stream = stream().chunk(": hi\n\n").chunk("id: 1\ndata: a").chunk("\n\n");
        let mut source = watching(SSE, stream);
        assert_eq!(source.next(), Ok(Event::Alive));
        assert_eq!(source.next(), Ok(Event::Alive));
        assert_eq!(source.next(), Ok(Event::Dirty));
    }

    #[test]
    fn silence_proves_nothing_so_the_host_looks_for_itself() {
        let mut source = watching(SSE, stream().silence().silence());
        assert_eq!(source.next(), Ok(Event::Dirty));
        assert_eq!(source.next(), Ok(Event::Dirty));
    }

    #[test]
    fn silence_beyond_what_is_normal_means_that_the_stream_is_lost() {
        let settings = r#"{"url": "https://example.com/value", "watch": "sse", "silence": 45}"#;
        let stream = stream().silence().chunk(":\n").silence().silence();
        let mut source = watching(settings, stream);
        assert_eq!(source.next(), Ok(Event::Alive), "30 seconds");
        assert_eq!(source.next(), Ok(Event::Alive), "a comment");
        assert_eq!(source.next(), Ok(Event::Alive), "30 seconds again");
        let failure = source.next().unwrap_err();
        assert_eq!(failure.message, "`https://example.com/value`: silent for 45 seconds");
    }

    #[test]
    fn after_the_end_the_server_decides_when_to_come_back() {
        let mut source = watching(SSE, stream().chunk("retry: 1500\n"));
        assert_eq!(source.next(), Ok(Event::Alive));
        let retry_after = Some(Duration::from_millis(1500));
        assert_eq!(source.next().unwrap_err().kind, FailureKind::Transient { retry_after });

        let mut source = watching(SSE, stream().broken("reset"));
        let retry_after = None;
        assert_eq!(source.next().unwrap_err().kind, FailureKind::Transient { retry_after });
    }

    #[test]
    fn what_is_no_stream_of_events_cannot_be_watched() {
        for (response, kind) in [
            (FakeResponse::new(200), FailureKind::Permanent),
            (FakeResponse::new(200).header("content-type", "text/html"), FailureKind::Permanent),
            (FakeResponse::new(204), FailureKind::Permanent),
            (FakeResponse::new(401), FailureKind::Denied),
            (FakeResponse::new(502), FailureKind::Transient { retry_after: None }),
        ] {
            let fake = FakeHost::new();
            fake.next_response(Ok(response));
            assert_eq!(source(&fake, SSE).watch(None).unwrap_err().kind, kind);
        }
    }

    #[test]
    fn events_may_come_from_another_address_which_is_not_sent_the_headers_of_the_first() {
        let fake = FakeHost::new();
        fake.next_response(Ok(stream()));
        let settings = r#"{"url": "https://example.com/value", "headers": {"x-key": "k"},
            "watch": "sse", "watch_url": "https://u:p@events.example/"}"#;
        source(&fake, settings).watch(None).unwrap();
        assert_eq!(fake.requests()[0].url, "https://events.example/");
        assert_eq!(sent(&fake, 0, "accept"), Some("text/event-stream".into()));
        assert_eq!(sent(&fake, 0, "accept-encoding"), Some("identity".into()));
        assert_eq!(sent(&fake, 0, "authorization"), Some("Basic dTpw".into()));
        assert_eq!(sent(&fake, 0, "x-key"), None);
    }
}
