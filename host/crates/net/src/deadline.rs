//! How long things may take, and what is said when they take longer.

use humantime::format_duration;
use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// How long a plugin wants to wait; the host has limits of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// For the connection.
    pub connect: Option<Duration>,
    /// For the response's headers.
    pub first_byte: Option<Duration>,
    /// From one piece of the body to the next.
    pub between_bytes: Option<Duration>,
}

/// How long a plugin waits that does not say for how long: for a connection, or for a response.
pub(crate) const WAIT: Duration = Duration::from_secs(15);
/// The longest that anything is waited for, whatever a plugin says.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(10 * 60);

/// No limit is longer: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting,
    Certificates,
    Resolving,
    Connecting,
    Tls,
    Receiving,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting for the response",
            Self::Certificates => "reading the certificates",
            Self::Resolving => "resolving the name",
            Self::Connecting => "connecting",
            Self::Tls => "agreeing on TLS",
            Self::Receiving => "receiving the body",
        })
    }
}

/// How far something has come, for whoever ends the wait.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU8);

impl Progress {
    const PHASES: [Phase; 6] = [
        Phase::Waiting,
        Phase::Certificates,
        Phase::Resolving,
        Phase::Connecting,
        Phase::Tls,
        Phase::Receiving,
    ];

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        Self::PHASES[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

/// When a wait ends, and whose decision that is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    after: Duration,
    whose: Whose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The plugin has asked for it.
    Plugin,
    /// The plugin has not asked, or for more than there is.
    Host,
    /// A limit, by its name.
    Limit(&'static str),
}

impl Deadline {
    /// What the plugin asks for, up to `max`, or else `default`.
    pub(crate) fn asked(
        from: Instant,
        after: Option<Duration>,
        default: Duration,
        max: Duration,
    ) -> Self {
        match after {
            Some(after) if after <= max => Self { at: from + after, after, whose: Whose::Plugin },
            _ => {
                let after = after.unwrap_or(default).min(max);
                Self { at: from + after, after, whose: Whose::Host }
            }
        }
    }

    /// A limit of the host.
    pub(crate) fn limit(from: Instant, after: Duration, name: &'static str) -> Self {
        // Times that cannot be reckoned with are as good as none.
        let after = after.min(LONGEST);
        Self { at: from + after, after, whose: Whose::Limit(name) }
    }

    /// The earlier of two; of equal ones the other.
    pub(crate) fn or(self, other: Self) -> Self {
        if self.at < other.at { self } else { other }
    }

    /// The later of two; of equal ones the other.
    pub(crate) fn and(self, other: Self) -> Self {
        if self.at > other.at { self } else { other }
    }

    /// Whether it is a limit that can be set.
    pub(crate) fn is_limit(&self) -> bool {
        matches!(self.whose, Whose::Limit(_))
    }

    /// What to say when it is over.
    pub(crate) fn over(&self, phase: Phase) -> String {
        let after = format_duration(self.after).to_string().replace(' ', "");
        let why = match self.whose {
            Whose::Plugin => format!("the plugin waits for {after}"),
            Whose::Host => format!("the host waits for {after}"),
            Whose::Limit(name) => format!("limit `{name}` is {after}"),
        };
        let over = format!("timed out while {phase} ({why})");
        // Many a protocol waits for the end of a line.
        if phase == Phase::Tls { over + "; does the server speak TLS there?" } else { over }
    }
}
