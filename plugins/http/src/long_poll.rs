//! Watch with long polling: the server holds a request until the value changes.
//!
//! # Why no change is missed
//!
//! The *position* consists of the validators of the last response. Each request sends the position as
//! `If-None-Match` and `If-Modified-Since`. If the value has changed since that position, the server
//! responds immediately, so a change between two requests is not lost. A change between `watch` and the first
//! poll is not lost either, because `watch` sends a first request to obtain a position.
//!
//! A server may have no position: an empty channel, a server without validators, or a server that only
//! reports changes during a request. Such a server cannot detect a change between two requests, and the
//! client cannot detect when the server has subscribed it. Every end of a request then yields
//! [`Event::Dirty`], so the host finds a missed change when the next request ends.
//!
//! A request without a response also yields [`Event::Dirty`]: the server may hold the request longer than
//! the timeout, or be unreachable.

use crate::{
    address::Address,
    client::{Client, Reply},
    conditional_request::CacheValidators,
    status_failure::status_failure,
    time_budget::TimeBudget,
};
use guest_sdk::{Chunk, Event, Failure};
use std::time::{Duration, Instant};

/// Timeout of a held request. The host may apply the same timeout to the connection attempt in addition.
/// The sum of both must be less than the host's liveness limit, 60 seconds by default.
const POLL_TIMEOUT: Duration = Duration::from_secs(25);
/// Timeout of a held request including its body. It is less than the host's liveness limit.
const POLL_DEADLINE: Duration = Duration::from_secs(55);
/// Timeout of the first request, which obtains the position (see the module documentation). A server without a
/// position holds even this request.
const INITIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of the first request, including connection and body.
const INITIAL_DEADLINE: Duration = Duration::from_secs(6);
/// Minimum response time of a held request. A faster response is an immediate response.
const MIN_HOLD_TIME: Duration = Duration::from_secs(1);
/// Maximum number of consecutive immediate responses without delay. A channel may replay its backlog with
/// immediate responses. Further requests are delayed by [`MIN_HOLD_TIME`].
const MAX_IMMEDIATE_RESPONSES: u32 = 20;

/// URL to poll and the statuses that signal a change.
pub(crate) struct Endpoint<'a> {
    pub(crate) client: &'a Client,
    pub(crate) url: &'a Address,
    pub(crate) expected: &'a [u16],
}

/// State of a long-polling watch between two requests.
#[derive(Default)]
pub(crate) struct LongPoll {
    position: CacheValidators,
    /// Number of consecutive responses that the server sent without holding the request.
    immediate_responses: u32,
}

/// Result of one long-poll request.
enum PollResult {
    /// Complete response with an expected status, and its validators.
    Changed(CacheValidators),
    /// Response with a status that means "no change".
    Unchanged(u16),
    /// No complete response before the timeout.
    TimedOut,
}

impl LongPoll {
    /// Starts the watch and requests the first position.
    ///
    /// # Errors
    ///
    /// Returns a failure if the request fails or the status is unexpected.
    pub(crate) fn start(endpoint: &Endpoint<'_>) -> Result<Self, Failure> {
        let mut poll = Self::default();
        if let PollResult::Changed(position) =
            poll.request(endpoint, &TimeBudget::new(INITIAL_TIMEOUT, INITIAL_DEADLINE))?
        {
            poll.position = position;
        }
        Ok(poll)
    }

    /// Sends the next long poll and waits for its result.
    ///
    /// # Errors
    ///
    /// Returns a failure if the request fails, the status is unexpected, or the server does not hold
    /// requests.
    pub(crate) fn next(&mut self, endpoint: &Endpoint<'_>) -> Result<Event, Failure> {
        std::thread::sleep(self.delay());
        let started = Instant::now();
        let result = self.request(endpoint, &TimeBudget::new(POLL_TIMEOUT, POLL_DEADLINE))?;
        self.classify(result, started.elapsed())
            .map_err(|failure| failure.context(format_args!("`{}`", endpoint.url)))
    }

    fn request(&self, endpoint: &Endpoint<'_>, budget: &TimeBudget) -> Result<PollResult, Failure> {
        let position = |_: &Address| self.position.headers();
        let Some(Reply { mut response, from }) =
            endpoint.client.get(endpoint.url, budget, &position)?
        else {
            return Ok(PollResult::TimedOut);
        };
        match response.status {
            status @ (204 | 304 | 408 | 504) => return Ok(PollResult::Unchanged(status)),
            status if endpoint.expected.contains(&status) => {}
            _ => {
                let failure = status_failure(&response, endpoint.expected);
                return Err(failure.context(format_args!("`{from}`")));
            }
        }
        // Some servers send the headers immediately and hold the body, so only its end signals a change.
        loop {
            let Some(wait) = budget.remaining() else { return Ok(PollResult::TimedOut) };
            let chunk = response
                .chunk(wait)
                .map_err(|error| Failure::from(error).context(format_args!("`{from}`")))?;
            match chunk {
                Chunk::Bytes(_) => {}
                Chunk::Nothing => return Ok(PollResult::TimedOut),
                Chunk::End => {
                    return Ok(PollResult::Changed(CacheValidators::from_response(&response)));
                }
            }
        }
    }

    /// Converts the result of a request to an event or a failure, depending on the response time.
    fn classify(&mut self, result: PollResult, elapsed: Duration) -> Result<Event, Failure> {
        const NOT_HELD: &str = "not long polling: the server responds immediately instead of holding \
            the request until the value changes; remove `watch` to let the host poll";
        let immediate = elapsed < MIN_HOLD_TIME;
        self.immediate_responses =
            if immediate { self.immediate_responses.saturating_add(1) } else { 0 };
        match result {
            PollResult::TimedOut => Ok(Event::Dirty),
            // An immediate 408 or 504 is not the normal end of a long poll: a gateway reports that its server is
            // unavailable.
            PollResult::Unchanged(status @ (408 | 504)) if immediate => {
                Err(Failure::transient(format_args!("returned {status} immediately")))
            }
            PollResult::Unchanged(_) if immediate => Err(Failure::permanent(NOT_HELD)),
            PollResult::Unchanged(_) if self.position.is_empty() => Ok(Event::Dirty),
            PollResult::Unchanged(_) => Ok(Event::Alive),
            PollResult::Changed(position)
                if immediate && (position.is_empty() || position == self.position) =>
            {
                Err(Failure::permanent(NOT_HELD))
            }
            PollResult::Changed(position) => {
                self.position = position;
                Ok(Event::Dirty)
            }
        }
    }

    /// Returns the delay before the next request.
    fn delay(&self) -> Duration {
        if self.immediate_responses > MAX_IMMEDIATE_RESPONSES {
            MIN_HOLD_TIME
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use guest_sdk::{FailureKind, FakeHost, FakeResponse, HttpError, RealtimeWatch};

    const POLL: &str = r#"{"url": "https://example.com/value", "watch": "long-poll"}"#;
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const HELD_TIME: Duration = Duration::from_secs(20);
    const NOT_HELD_TIME: Duration = Duration::from_millis(10);

    fn message(tag: &str) -> FakeResponse {
        FakeResponse::new(200).header("etag", tag).header("last-modified", DATE).chunk("news")
    }

    /// Returns a source with an active watch. `first` is the response to the first request.
    fn watching(fake: &FakeHost, first: Result<FakeResponse, HttpError>) -> crate::Url {
        fake.next_response(first);
        let mut source = source(fake, POLL);
        source.watch(None).unwrap();
        source
    }

    fn news(tag: &str) -> PollResult {
        let fake = FakeHost::new();
        fake.next_response(Ok(message(tag)));
        let response = fake.host().send(guest_sdk::Request::get("http://h/")).unwrap();
        PollResult::Changed(CacheValidators::from_response(&response))
    }

    fn positioned() -> LongPoll {
        let mut poll = LongPoll::default();
        poll.classify(news("0"), HELD_TIME).unwrap();
        poll
    }

    #[test]
    fn requests_send_last_validators() {
        let fake = FakeHost::new();
        let mut source = watching(&fake, Ok(message("0")));
        assert_eq!(sent(&fake, 0, "if-none-match"), None);
        fake.next_response(Ok(message("1")));
        fake.next_response(Ok(message("2")));
        assert_eq!(source.next(), Ok(Event::Dirty));
        assert_eq!(source.next(), Ok(Event::Dirty));
        for (request, tag) in [(1, "0"), (2, "1")] {
            assert_eq!(sent(&fake, request, "if-none-match"), Some(tag.into()));
            assert_eq!(sent(&fake, request, "if-modified-since"), Some(DATE.into()));
        }
    }

    #[test]
    fn timeout_is_dirty_and_keeps_position() {
        let fake = FakeHost::new();
        let mut source = watching(&fake, Ok(message("0")));
        fake.next_response(Err(HttpError::TimedOut));
        fake.next_response(Ok(message("1").silence()));
        fake.next_response(Ok(message("1")));
        (0..3).for_each(|_| assert_eq!(source.next(), Ok(Event::Dirty)));
        assert_eq!(sent(&fake, 3, "if-none-match"), Some("0".into()));
    }

    #[test]
    fn held_first_request_succeeds() {
        let fake = FakeHost::new();
        let mut source = watching(&fake, Err(HttpError::TimedOut));
        assert!(fake.requests()[0].timeout <= INITIAL_TIMEOUT);
        fake.next_response(Ok(message("0")));
        assert_eq!(source.next(), Ok(Event::Dirty));
        assert_eq!(sent(&fake, 1, "if-none-match"), None);
    }

    #[test]
    fn unchanged_with_position_is_alive() {
        for status in [204, 304, 408, 504] {
            let mut poll = positioned();
            assert_eq!(poll.classify(PollResult::Unchanged(status), HELD_TIME), Ok(Event::Alive));
        }
    }

    /// Without a position, a change between two requests can be missed, so the host reads the value.
    #[test]
    fn any_result_without_position_is_dirty() {
        let mut poll = LongPoll::default();
        assert_eq!(poll.classify(PollResult::Unchanged(408), HELD_TIME), Ok(Event::Dirty));
        assert_eq!(
            poll.classify(PollResult::Changed(CacheValidators::default()), HELD_TIME),
            Ok(Event::Dirty)
        );
        assert_eq!(poll.classify(PollResult::TimedOut, HELD_TIME), Ok(Event::Dirty));
    }

    #[test]
    fn immediate_response_fails_watch() {
        for result in
            [PollResult::Unchanged(304), news("0"), PollResult::Changed(CacheValidators::default())]
        {
            let failure = positioned().classify(result, NOT_HELD_TIME).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Permanent);
            assert!(failure.message.contains("not long polling"), "{failure}");
        }
        let failure = positioned().classify(PollResult::Unchanged(504), NOT_HELD_TIME).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Transient { retry_after: None });
    }

    #[test]
    fn long_backlog_is_rate_limited() {
        let mut poll = LongPoll::default();
        for message in 0..MAX_IMMEDIATE_RESPONSES {
            assert_eq!(poll.classify(news(&message.to_string()), NOT_HELD_TIME), Ok(Event::Dirty));
            assert_eq!(poll.delay(), Duration::ZERO);
        }
        poll.classify(news("one more"), NOT_HELD_TIME).unwrap();
        assert_eq!(poll.delay(), MIN_HOLD_TIME);
        poll.classify(news("at last"), HELD_TIME).unwrap();
        assert_eq!(poll.delay(), Duration::ZERO);
    }

    #[test]
    fn unexpected_status_fails_watch() {
        let fake = FakeHost::new();
        let mut source = watching(&fake, Ok(message("0")));
        fake.next_response(Ok(FakeResponse::new(410)));
        assert_eq!(source.next().unwrap_err().kind, FailureKind::Permanent);
        fake.next_response(Ok(message("1").broken("reset")));
        assert_eq!(source.next().unwrap_err().kind, FailureKind::Transient { retry_after: None });
    }
}
