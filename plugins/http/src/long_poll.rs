//! Watching by long polling: a request that the server answers when something has changed.
//!
//! # Why no change is missed
//!
//! With the validators of the last response, the *position*, a request says what has been seen: the
//! server answers at once when there is more. So between two requests nothing is lost, and neither is
//! it between `watch` and the first one, because `watch` itself asks once to get a position.
//!
//! Without a position (an empty channel; a server that sends no validators; one that only tells what
//! happens while somebody waits) the server cannot know what was missed between two requests, and
//! nobody can see from outside when it has begun to listen. Then every end of a request is taken for
//! a possible change: a change that fell into a gap is found when the next request ends.
//!
//! A request that is not answered at all is the same case. It may be a server that holds it longer
//! than we wait, or one that is gone.

use crate::{
    address::Address,
    client::{Client, Reply},
    patience::Patience,
    status::refusal,
    validators::Validators,
};
use guest_sdk::{Chunk, Event, Failure};
use std::time::{Duration, Instant};

/// How long a request may be held for certain. A host may allow the time for connecting on top of it,
/// and that as long again, so it is less than half of the minute in which it wants a sign of life.
const HOLD: Duration = Duration::from_secs(25);
/// How long a request may take with its body.
const WHOLE: Duration = Duration::from_secs(55);
/// How long `watch` waits for a position. Who has none to give holds the request.
const FIRST: Duration = Duration::from_secs(2);
/// How long that may take with connecting and the body.
const FIRST_WHOLE: Duration = Duration::from_secs(6);
/// Whoever answers faster has not held the request.
const QUICK: Duration = Duration::from_secs(1);
/// So many quick answers in a row may be a channel that tells its past. More are slowed down.
const BURST: u32 = 20;

/// Where to ask, and which statuses mean that something is new.
pub(crate) struct Line<'a> {
    pub(crate) client: &'a Client,
    pub(crate) url: &'a Address,
    pub(crate) expected: &'a [u16],
}

/// What is known between two requests.
#[derive(Default)]
pub(crate) struct LongPoll {
    position: Validators,
    /// How many quick answers came in a row.
    quick: u32,
}

enum Answer {
    /// Something new, complete.
    News(Validators),
    /// The server says that nothing happened, with this status.
    NoNews(u16),
    /// No answer, or no complete one, in time.
    Silence,
}

impl LongPoll {
    /// Asks for a position.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub(crate) fn start(line: &Line<'_>) -> Result<Self, Failure> {
        let mut poll = Self::default();
        if let Answer::News(position) = poll.ask(line, &Patience::new(FIRST, FIRST_WHOLE))? {
            poll.position = position;
        }
        Ok(poll)
    }

    /// Asks for news.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked, or does not hold requests.
    pub(crate) fn next(&mut self, line: &Line<'_>) -> Result<Event, Failure> {
        std::thread::sleep(self.pause());
        let asked = Instant::now();
        let answer = self.ask(line, &Patience::new(HOLD, WHOLE))?;
        self.judge(answer, asked.elapsed())
            .map_err(|failure| failure.context(format_args!("`{}`", line.url)))
    }

    fn ask(&self, line: &Line<'_>, patience: &Patience) -> Result<Answer, Failure> {
        let position = |_: &Address| self.position.headers();
        let Some(Reply { mut response, from }) = line.client.get(line.url, patience, &position)?
        else {
            return Ok(Answer::Silence);
        };
        match response.status {
            status @ (204 | 304 | 408 | 504) => return Ok(Answer::NoNews(status)),
            status if line.expected.contains(&status) => {}
            _ => {
                let failure = refusal(&response, line.expected);
                return Err(failure.context(format_args!("`{from}`")));
            }
        }
        // Some servers send the headers at once and hold the body, so the news is its end.
        loop {
            let Some(wait) = patience.left() else { return Ok(Answer::Silence) };
            let chunk = response
                .chunk(wait)
                .map_err(|error| Failure::from(error).context(format_args!("`{from}`")))?;
            match chunk {
                Chunk::Bytes(_) => {}
                Chunk::Nothing => return Ok(Answer::Silence),
                Chunk::End => return Ok(Answer::News(Validators::of(&response))),
            }
        }
    }

    /// What an answer that took so long means.
    fn judge(&mut self, answer: Answer, took: Duration) -> Result<Event, Failure> {
        const NOT_HELD: &str = "the request is answered at once instead of being held until \
            something changes: this is not long polling, so leave `watch` out and let the host poll";
        let quick = took < QUICK;
        self.quick = if quick { self.quick.saturating_add(1) } else { 0 };
        match answer {
            Answer::Silence => Ok(Event::Dirty),
            // Not the end of a wait: a gateway whose server is down.
            Answer::NoNews(status @ (408 | 504)) if quick => {
                Err(Failure::transient(format_args!("answered {status} at once")))
            }
            Answer::NoNews(_) if quick => Err(Failure::permanent(NOT_HELD)),
            Answer::NoNews(_) if self.position.is_empty() => Ok(Event::Dirty),
            Answer::NoNews(_) => Ok(Event::Alive),
            Answer::News(position)
                if quick && (position.is_empty() || position == self.position) =>
            {
                Err(Failure::permanent(NOT_HELD))
            }
            Answer::News(position) => {
                self.position = position;
                Ok(Event::Dirty)
            }
        }
    }

    /// How long to wait before asking again.
    fn pause(&self) -> Duration {
        if self.quick > BURST { QUICK } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use guest_sdk::{FailureKind, FakeHost, FakeResponse, HttpError, RealtimeWatch};

    const POLL: &str = r#"{"url": "https://example.com/value", "watch": "long-poll"}"#;
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const HELD: Duration = Duration::from_secs(20);
    const AT_ONCE: Duration = Duration::from_millis(10);

    fn message(tag: &str) -> FakeResponse {
        FakeResponse::new(200).header("etag", tag).header("last-modified", DATE).chunk("news")
    }

    /// The source after `watch`, which was answered with this.
    fn watching(fake: &FakeHost, first: Result<FakeResponse, HttpError>) -> crate::Url {
        fake.next_response(first);
        let mut source = source(fake, POLL);
        source.watch(None).unwrap();
        source
    }

    fn news(tag: &str) -> Answer {
        let fake = FakeHost::new();
        fake.next_response(Ok(message(tag)));
        let response = fake.host().send(guest_sdk::Request::get("http://h/")).unwrap();
        Answer::News(Validators::of(&response))
    }

    fn positioned() -> LongPoll {
        let mut poll = LongPoll::default();
        poll.judge(news("0"), HELD).unwrap();
        poll
    }

    #[test]
    fn both_validators_are_sent_back_from_the_first_answer_on() {
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
    fn a_request_that_nobody_answers_makes_the_host_look_and_keeps_the_position() {
        let fake = FakeHost::new();
        let mut source = watching(&fake, Ok(message("0")));
        fake.next_response(Err(HttpError::TimedOut));
        fake.next_response(Ok(message("1").silence()));
        fake.next_response(Ok(message("1")));
        (0..3).for_each(|_| assert_eq!(source.next(), Ok(Event::Dirty)));
        assert_eq!(sent(&fake, 3, "if-none-match"), Some("0".into()));
    }

    #[test]
    fn a_first_request_that_is_held_is_no_failure() {
        let fake = FakeHost::new();
        let mut source = watching(&fake, Err(HttpError::TimedOut));
        assert!(fake.requests()[0].timeout <= FIRST);
        fake.next_response(Ok(message("0")));
        assert_eq!(source.next(), Ok(Event::Dirty));
        assert_eq!(sent(&fake, 1, "if-none-match"), None);
    }

    #[test]
    fn no_news_is_a_sign_of_life_when_the_server_knows_what_was_seen() {
        for status in [204, 304, 408, 504] {
            let mut poll = positioned();
            assert_eq!(poll.judge(Answer::NoNews(status), HELD), Ok(Event::Alive));
        }
    }

    #[test]
    fn without_a_position_every_end_of_a_request_may_hide_a_change() {
        let mut poll = LongPoll::default();
        assert_eq!(poll.judge(Answer::NoNews(408), HELD), Ok(Event::Dirty));
        assert_eq!(poll.judge(Answer::News(Validators::default()), HELD), Ok(Event::Dirty));
        assert_eq!(poll.judge(Answer::Silence, HELD), Ok(Event::Dirty));
    }

    #[test]
    fn a_server_that_does_not_hold_the_request_is_not_asked_again_and_again() {
        for answer in [Answer::NoNews(304), news("0"), Answer::News(Validators::default())] {
            let failure = positioned().judge(answer, AT_ONCE).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Permanent);
            assert!(failure.message.contains("not long polling"), "{failure}");
        }
        let failure = positioned().judge(Answer::NoNews(504), AT_ONCE).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Transient { retry_after: None });
    }

    #[test]
    fn a_backlog_is_taken_quickly_but_an_endless_one_is_slowed_down() {
        let mut poll = LongPoll::default();
        for message in 0..BURST {
            assert_eq!(poll.judge(news(&message.to_string()), AT_ONCE), Ok(Event::Dirty));
            assert_eq!(poll.pause(), Duration::ZERO);
        }
        poll.judge(news("one more"), AT_ONCE).unwrap();
        assert_eq!(poll.pause(), QUICK);
        poll.judge(news("at last"), HELD).unwrap();
        assert_eq!(poll.pause(), Duration::ZERO);
    }

    #[test]
    fn a_refusal_ends_the_watch() {
        let fake = FakeHost::new();
        let mut source = watching(&fake, Ok(message("0")));
        fake.next_response(Ok(FakeResponse::new(410)));
        assert_eq!(source.next().unwrap_err().kind, FailureKind::Permanent);
        fake.next_response(Ok(message("1").broken("reset")));
        assert_eq!(source.next().unwrap_err().kind, FailureKind::Transient { retry_after: None });
    }
}
