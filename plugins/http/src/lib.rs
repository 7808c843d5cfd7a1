//! The source `http`: a value behind a URL, polled with conditional requests, and watched by
//! server-sent events or long polling where the server offers one of them.

mod address;
mod client;
mod fetch;
mod long_poll;
mod patience;
mod sse;
mod status;
mod stream;
#[cfg(test)]
mod testing;
mod validators;

use address::Address;
use client::Client;
use fetch::Expected;
use guest_sdk::{Event, Failure, Host, Outcome, RealtimeWatch, Reload};
use long_poll::{Line, LongPoll};
use patience::Patience;
use std::{collections::BTreeMap, time::Duration};
use stream::EventStream;

/// A value behind a URL.
#[guest_sdk::settings]
pub struct Settings {
    /// Where the value is. `user:password@` in front of the host is sent as `Basic` authorization.
    #[setting(connect)]
    pub url: String,
    /// Header fields to send, by name. Only the origin of `url` is sent them.
    #[setting(secret)]
    pub headers: Option<BTreeMap<String, String>>,
    /// The statuses that carry a value. 304 is understood by itself.
    #[setting(default = [200])]
    pub expect: Vec<u16>,
    /// The statuses that say for certain that there is no value. Make it `[]` where they may come
    /// from a deployment or a proxy: then they are failures, and the last value stays.
    #[setting(default = [404, 410])]
    pub absent: Vec<u16>,
    /// How many bytes a value may have.
    #[setting(default = 8388608)]
    pub max_bytes: u32,
    /// How many seconds to wait for a connection, for the response, and for each piece of the body.
    #[setting(default = 10)]
    pub timeout: u32,
    /// How many seconds one read may take in all, with redirects and the whole body. The host has a
    /// limit of its own.
    #[setting(default = 25)]
    pub deadline: u32,
    /// How many redirects to follow. They do not lead to origins that the settings do not name.
    #[setting(default = 5)]
    pub redirects: u32,
    /// How the server tells of changes: `none` (the host polls), `sse` (server-sent events), or
    /// `long-poll`.
    #[setting(default = "none")]
    pub watch: Watch,
    /// Where it tells of them. The same as `url` when left out.
    #[setting(connect)]
    pub watch_url: Option<String>,
    /// How many seconds `sse` may be silent before the stream counts as lost; more than the time
    /// between two of the server's signs of life. With 0 it never does, but while it is silent the
    /// host reads `url` every 30 seconds.
    #[setting(default = 0)]
    pub silence: u32,
}

/// How a server tells of changes.
#[guest_sdk::settings]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Not at all.
    None,
    /// By server-sent events.
    Sse,
    /// By holding a request.
    LongPoll,
}

/// A value behind a URL.
pub struct Url {
    client: Client,
    url: Address,
    watch_url: Address,
    expected: Expected,
    timeout: Duration,
    deadline: Duration,
    watch: Watch,
    silence: Option<Duration>,
    watching: Option<Watching>,
}

enum Watching {
    Stream(EventStream),
    LongPoll(LongPoll),
}

impl Reload for Url {
    type Config = Settings;

    fn new(config: Settings, host: &Host) -> Result<Self, Failure> {
        let seconds = |name: &str, value: u32| match value {
            0 => Err(Failure::config(format_args!("`{name}` is at least 1"))),
            value => Ok(Duration::from_secs(value.into())),
        };
        let url = address("url", &config.url)?;
        let watch_url = match &config.watch_url {
            Some(text) => address("watch_url", text)?,
            None => url.clone(),
        };
        let headers = config.headers.unwrap_or_default();
        Ok(Self {
            client: Client::new(host, &[&url, &watch_url], headers, config.redirects)?,
            url,
            watch_url,
            expected: Expected {
                max_bytes: usize::try_from(config.max_bytes).unwrap_or(usize::MAX),
                ..statuses(config.expect, config.absent)?
            },
            timeout: seconds("timeout", config.timeout)?,
            deadline: seconds("deadline", config.deadline)?,
            watch: config.watch,
            silence: (config.silence > 0).then(|| Duration::from_secs(config.silence.into())),
            watching: None,
        })
    }

    fn reload(&mut self, known: Option<&str>) -> Result<Outcome, Failure> {
        fetch::fetch(&self.client, &self.url, &self.expected, &self.patience(), known)
    }
}

impl RealtimeWatch for Url {
    fn watch(&mut self, _known: Option<&str>) -> Result<(), Failure> {
        self.watching = Some(match self.watch {
            Watch::None => {
                return Err(Failure::permanent(
                    "polled, not watched: set `watch` to `sse` or `long-poll` if the server tells of \
                     changes",
                ));
            }
            Watch::Sse => Watching::Stream(EventStream::open(
                &self.client,
                &self.watch_url,
                &self.patience(),
                self.silence,
            )?),
            Watch::LongPoll => Watching::LongPoll(LongPoll::start(&self.line())?),
        });
        Ok(())
    }

    fn next(&mut self) -> Result<Event, Failure> {
        match self.watching.take() {
            None => Err(Failure::permanent("not watching")),
            Some(mut watching) => {
                let event = match &mut watching {
                    Watching::Stream(stream) => stream.next(),
                    Watching::LongPoll(poll) => poll.next(&self.line()),
                };
                self.watching = Some(watching);
                event
            }
        }
    }
}

impl Url {
    fn patience(&self) -> Patience {
        Patience::new(self.timeout, self.deadline)
    }

    fn line(&self) -> Line<'_> {
        Line { client: &self.client, url: &self.watch_url, expected: &self.expected.value }
    }
}

fn address(name: &str, text: &str) -> Result<Address, Failure> {
    Address::parse(text).map_err(|why| Failure::config(format_args!("`{name}`: {why}")))
}

/// Statuses of redirects and of conditional requests are not for the operator to give a meaning.
fn statuses(value: Vec<u16>, absent: Vec<u16>) -> Result<Expected, Failure> {
    if value.is_empty() {
        return Err(Failure::config("`expect` names no status, so there could never be a value"));
    }
    for status in value.iter().chain(&absent) {
        if !matches!(status, 200..=299 | 400..=599) {
            return Err(Failure::config(format_args!(
                "`expect` and `absent` take statuses from 200 to 299 and from 400 to 599, not {status}"
            )));
        }
    }
    if let Some(both) = value.iter().find(|status| absent.contains(status)) {
        return Err(Failure::config(format_args!("{both} stands in both `expect` and `absent`")));
    }
    Ok(Expected { value, absent, max_bytes: 0 })
}

guest_sdk::export!(Url: Reload + RealtimeWatch);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use guest_sdk::{FailureKind, FakeHost};

    #[test]
    fn settings_that_cannot_work_are_refused_without_asking_the_server() {
        let cases = [
            r#"{"url": "example.com/value"}"#,
            r#"{"url": "http://h/", "watch_url": "/events"}"#,
            r#"{"url": "http://h/", "timeout": 0}"#,
            r#"{"url": "http://h/", "deadline": 0}"#,
            r#"{"url": "http://h/", "expect": []}"#,
            r#"{"url": "http://h/", "expect": [304]}"#,
            r#"{"url": "http://h/", "expect": [200, 404]}"#,
            r#"{"url": "http://h/", "absent": [302]}"#,
        ];
        for settings in cases {
            let fake = FakeHost::new();
            let failure = try_source(&fake, settings).err().unwrap();
            assert_eq!(failure.kind, FailureKind::Config, "{settings}");
            assert!(fake.requests().is_empty());
        }
    }

    #[test]
    fn a_source_that_is_only_polled_says_how_to_watch_it_and_asks_nobody() {
        let fake = FakeHost::new();
        let failure = source(&fake, URL).watch(None).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent);
        assert!(failure.message.contains("`long-poll`"), "{failure}");
        assert!(fake.requests().is_empty());
    }
}
