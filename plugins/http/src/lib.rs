//! Source plugin `http`: an HTTP resource, polled with conditional requests. If the server supports it, the
//! plugin watches the resource with server-sent events or long polling.
//!
//! | module | |
//! |---|---|
//! | `fetch`, `conditional_request`, `status_failure` | read of the value, cache validation with `ETag` and `Last-Modified`, failures by status |
//! | `event_stream`, `sse_parser` | watch with server-sent events |
//! | `long_poll` | watch with long polling |
//! | `client`, `address`, `time_budget` | requests and redirects, URLs, timeouts |

mod address;
mod client;
mod conditional_request;
mod event_stream;
mod fetch;
mod long_poll;
mod sse_parser;
mod status_failure;
#[cfg(test)]
mod testing;
mod time_budget;

use address::Address;
use client::Client;
use event_stream::EventStream;
use fetch::Expected;
use guest_sdk::{Event, Failure, Host, Outcome, RealtimeWatch, Reload};
use long_poll::{Endpoint, LongPoll};
use std::{collections::BTreeMap, time::Duration};
use time_budget::TimeBudget;

/// Settings of the source plugin `http`.
#[guest_sdk::settings]
pub struct Settings {
    /// URL of the value. `user:password@` before the host is sent as `Basic` authorization.
    #[setting(connect)]
    pub url: String,
    /// Request header fields by name. Only the origin of `url` receives them.
    #[setting(secret)]
    pub headers: Option<BTreeMap<String, String>>,
    /// Statuses of a response with a value. 304 (Not Modified) is always handled.
    #[setting(default = [200])]
    pub expect: Vec<u16>,
    /// Statuses that mean that the value does not exist, so the host removes it. With `[]`, these
    /// statuses are failures and the host keeps the last value. Use `[]` if a proxy or a deployment can
    /// cause them.
    #[setting(default = [404, 410])]
    pub absent: Vec<u16>,
    /// Maximum size of the value, in bytes.
    #[setting(default = 8388608)]
    pub max_bytes: u32,
    /// Timeout in seconds for the response headers, including the connection, and for each chunk of the
    /// body.
    #[setting(default = 10)]
    pub timeout: u32,
    /// Timeout of one read in seconds, including redirects and the whole body. The host has an additional
    /// limit.
    #[setting(default = 25)]
    pub deadline: u32,
    /// Maximum number of redirects to follow. Redirects to origins that are not in the settings fail.
    #[setting(default = 5)]
    pub redirects: u32,
    /// Change notifications: `none` (the host polls), `sse` (server-sent events), or `long-poll`.
    #[setting(default = "none")]
    pub watch: Watch,
    /// URL for `sse` or `long-poll`; by default `url`.
    #[setting(connect)]
    pub watch_url: Option<String>,
    /// Maximum time in seconds that an `sse` stream may be silent before the plugin reconnects: slightly
    /// more than the interval of the server's keepalives. With 0 there is no limit, and the host reads
    /// `url` after every 30 seconds of silence.
    #[setting(default = 0)]
    pub silence: u32,
}

/// Type of change notifications.
#[guest_sdk::settings]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// No notifications. The host polls.
    None,
    /// Server-sent events.
    Sse,
    /// Long polling.
    LongPoll,
}

/// Source that reads and watches an HTTP resource.
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
            0 => Err(Failure::config(format_args!("`{name}` must be at least 1"))),
            value => Ok(Duration::from_secs(value.into())),
        };
        let url = parse_address("url", &config.url)?;
        let watch_url = match &config.watch_url {
            Some(text) => parse_address("watch_url", text)?,
            None => url.clone(),
        };
        let headers = config.headers.unwrap_or_default();
        Ok(Self {
            client: Client::new(host, &[&url, &watch_url], headers, config.redirects)?,
            url,
            watch_url,
            expected: Expected {
                max_bytes: usize::try_from(config.max_bytes).unwrap_or(usize::MAX),
                ..validate_statuses(config.expect, config.absent)?
            },
            timeout: seconds("timeout", config.timeout)?,
            deadline: seconds("deadline", config.deadline)?,
            watch: config.watch,
            silence: (config.silence > 0).then(|| Duration::from_secs(config.silence.into())),
            watching: None,
        })
    }

    fn reload(&mut self, known: Option<&str>) -> Result<Outcome, Failure> {
        fetch::fetch(&self.client, &self.url, &self.expected, &self.budget(), known)
    }
}

impl RealtimeWatch for Url {
    fn watch(&mut self, _known: Option<&str>) -> Result<(), Failure> {
        self.watching = Some(match self.watch {
            Watch::None => {
                return Err(Failure::permanent(
                    "change notifications not configured: set `watch` to `sse` or `long-poll` if the \
                     server supports one of them",
                ));
            }
            Watch::Sse => Watching::Stream(EventStream::open(
                &self.client,
                &self.watch_url,
                &self.budget(),
                self.silence,
            )?),
            Watch::LongPoll => Watching::LongPoll(LongPoll::start(&self.endpoint())?),
        });
        Ok(())
    }

    fn next(&mut self) -> Result<Event, Failure> {
        match self.watching.take() {
            None => Err(Failure::permanent("not watching")),
            Some(mut watching) => {
                let event = match &mut watching {
                    Watching::Stream(stream) => stream.next(),
                    Watching::LongPoll(poll) => poll.next(&self.endpoint()),
                };
                self.watching = Some(watching);
                event
            }
        }
    }
}

impl Url {
    fn budget(&self) -> TimeBudget {
        TimeBudget::new(self.timeout, self.deadline)
    }

    fn endpoint(&self) -> Endpoint<'_> {
        Endpoint { client: &self.client, url: &self.watch_url, expected: &self.expected.value }
    }
}

fn parse_address(name: &str, text: &str) -> Result<Address, Failure> {
    Address::parse(text).map_err(|why| Failure::config(format_args!("`{name}`: {why}")))
}

/// Validates `expect` and `absent`. Statuses of redirects and conditional requests are not allowed, because
/// the plugin handles them.
fn validate_statuses(value: Vec<u16>, absent: Vec<u16>) -> Result<Expected, Failure> {
    if value.is_empty() {
        return Err(Failure::config("`expect` must contain at least one status"));
    }
    for status in value.iter().chain(&absent) {
        if !matches!(status, 200..=299 | 400..=599) {
            return Err(Failure::config(format_args!(
                "invalid status {status} in `expect` or `absent`: allowed are 200 to 299 and 400 to 599"
            )));
        }
    }
    if let Some(both) = value.iter().find(|status| absent.contains(status)) {
        return Err(Failure::config(format_args!(
            "status {both} is in both `expect` and `absent`"
        )));
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
    fn invalid_settings_fail_without_request() {
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
    fn watch_none_fails_without_request() {
        let fake = FakeHost::new();
        let failure = source(&fake, URL).watch(None).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent);
        assert!(failure.message.contains("`long-poll`"), "{failure}");
        assert!(fake.requests().is_empty());
    }
}
