//! Watch of a URL by server-sent events (SSE).

use crate::{
    address::Address,
    client::{Client, Reply},
    sse_parser::SseParser,
    status_failure::status_failure,
    time_budget::TimeBudget,
};
use guest_sdk::{Chunk, Event, Failure, Response};
use std::time::Duration;

/// Maximum time that one call of [`EventStream::next`] waits for data.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Open event stream.
///
/// The stream does not resume with `Last-Event-ID`: after a reconnect the host reads the value, so missed
/// events need not be replayed.
pub(crate) struct EventStream {
    from: Address,
    response: Response,
    parser: SseParser,
    /// Maximum time without data before the stream counts as lost.
    max_silence: Option<Duration>,
    /// Time since the last data.
    silent_for: Duration,
}

impl EventStream {
    /// Opens the stream. The server has subscribed the client when it sends the response headers, so no
    /// later change is missed.
    ///
    /// # Errors
    ///
    /// Returns a failure if the response is not an event stream.
    pub(crate) fn open(
        client: &Client,
        url: &Address,
        budget: &TimeBudget,
        max_silence: Option<Duration>,
    ) -> Result<Self, Failure> {
        // Disables compression: a compressing server or proxy may buffer events.
        let accept = |_: &Address| {
            let fields = [("accept", "text/event-stream"), ("accept-encoding", "identity")];
            fields.map(|(name, value)| (name.into(), value.into())).into()
        };
        let Some(Reply { response, from }) = client.get(url, budget, &accept)? else {
            return Err(Failure::transient(format_args!("`{url}` did not respond in time")));
        };
        if response.status != 200 {
            return Err(status_failure(&response, &[200]).context(format_args!("`{from}`")));
        }
        let media_type = response.header("content-type").unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("text/event-stream") {
            return Err(Failure::permanent(format_args!(
                "`{from}` is not an event stream: its content type is `{media_type}` instead of \
                 `text/event-stream`"
            )));
        }
        let parser = SseParser::default();
        Ok(Self { from, response, parser, max_silence, silent_for: Duration::ZERO })
    }

    /// Waits for an event.
    ///
    /// Data without an event, e.g. a comment, confirms that the stream works. Silence does not: a half-open
    /// connection is as silent as an unchanged source. With `max_silence`, a longer silence is a failure.
    /// Without `max_silence`, the result is [`Event::Dirty`] after [`READ_TIMEOUT`], and the host reads the
    /// value.
    ///
    /// # Errors
    ///
    /// Returns a failure if the stream has ended or the silence exceeds `max_silence`.
    pub(crate) fn next(&mut self) -> Result<Event, Failure> {
        let wait = match self.max_silence {
            Some(silence) => silence.saturating_sub(self.silent_for).min(READ_TIMEOUT),
            None => READ_TIMEOUT,
        };
        match self.response.chunk(wait) {
            Ok(Chunk::Bytes(bytes)) => {
                self.silent_for = Duration::ZERO;
                Ok(if self.parser.feed(&bytes) > 0 { Event::Dirty } else { Event::Alive })
            }
            Ok(Chunk::Nothing) => {
                self.silent_for += wait;
                match self.max_silence {
                    Some(silence) if self.silent_for >= silence => {
                        Err(self.lost(format_args!("no data for {} seconds", silence.as_secs())))
                    }
                    Some(_) => Ok(Event::Alive),
                    None => Ok(Event::Dirty),
                }
            }
            Ok(Chunk::End) => Err(self.lost("the server closed the stream")),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Returns the failure for a lost stream, with the reconnect delay of the server's `retry` field.
    fn lost(&self, why: impl std::fmt::Display) -> Failure {
        let message = format!("`{}`: {why}", self.from);
        match self.parser.retry() {
            Some(delay) => Failure::retry_after(message, delay),
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

    /// Returns a source that watches the stream.
    fn watching(settings: &str, stream: FakeResponse) -> crate::Url {
        let fake = FakeHost::new();
        fake.next_response(Ok(stream));
        let mut source = source(&fake, settings);
        source.watch(None).unwrap();
        source
    }

    #[test]
    fn event_is_dirty_and_comment_is_alive() {
        let stream = stream().chunk(": hi\n\n").chunk("id: 1\ndata: a").chunk("\n\n");
        let mut source = watching(SSE, stream);
        assert_eq!(source.next(), Ok(Event::Alive));
        assert_eq!(source.next(), Ok(Event::Alive));
        assert_eq!(source.next(), Ok(Event::Dirty));
    }

    /// Without `silence`, the host reads the value while the stream is silent.
    #[test]
    fn silence_is_dirty_by_default() {
        let mut source = watching(SSE, stream().silence().silence());
        assert_eq!(source.next(), Ok(Event::Dirty));
        assert_eq!(source.next(), Ok(Event::Dirty));
    }

    #[test]
    fn silence_limit_ends_stream() {
        let settings = r#"{"url": "https://example.com/value", "watch": "sse", "silence": 45}"#;
        let stream = stream().silence().chunk(":\n").silence().silence();
        let mut source = watching(settings, stream);
        assert_eq!(source.next(), Ok(Event::Alive), "30 seconds");
        assert_eq!(source.next(), Ok(Event::Alive), "a comment");
        assert_eq!(source.next(), Ok(Event::Alive), "30 seconds again");
        let failure = source.next().unwrap_err();
        assert_eq!(failure.message, "`https://example.com/value`: no data for 45 seconds");
    }

    #[test]
    fn retry_field_delays_reconnect() {
        let mut source = watching(SSE, stream().chunk("retry: 1500\n"));
        assert_eq!(source.next(), Ok(Event::Alive));
        let retry_after = Some(Duration::from_millis(1500));
        assert_eq!(source.next().unwrap_err().kind, FailureKind::Transient { retry_after });

        let mut source = watching(SSE, stream().broken("reset"));
        let retry_after = None;
        assert_eq!(source.next().unwrap_err().kind, FailureKind::Transient { retry_after });
    }

    #[test]
    fn unexpected_response_fails_watch() {
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
    fn watch_url_of_other_origin_gets_no_headers() {
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
