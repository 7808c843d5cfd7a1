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

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
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
pub(super) struct Progress(AtomicU8);

impl Progress {
    const PHASES: [Phase; 6] = [
        Phase::Waiting,
        Phase::Certificates,
        Phase::Resolving,
        Phase::Connecting,
        Phase::Tls,
        Phase::Receiving,
    ];

    pub(super) fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        Self::PHASES[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

/// When a wait ends, and whose decision that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    after: Duration,
    /// The host's limit, by its name; `None` for a time that the plugin has asked for.
    limit: Option<&'static str>,
}

impl Deadline {
    /// What the plugin asks for.
    pub(super) fn asked(from: Instant, after: Duration) -> Self {
        Self { at: from + after, after, limit: None }
    }

    /// A limit of the host.
    pub(super) fn limit(from: Instant, after: Duration, name: &'static str) -> Self {
        Self { at: from + after, after, limit: Some(name) }
    }

    /// The earlier of two; of equal ones the host's.
    pub(super) fn or(self, limit: Self) -> Self {
        if self.at < limit.at { self } else { limit }
    }

    /// Whether the plugin has asked for it.
    pub(super) fn is_asked(&self) -> bool {
        self.limit.is_none()
    }

    /// What to say when it is over.
    pub(super) fn over(&self, phase: Phase) -> String {
        let after = format_duration(self.after).to_string().replace(' ', "");
        let over = match self.limit {
            Some(name) => format!("timed out while {phase} (limit `{name}` is {after})"),
            None => format!("timed out while {phase} (the plugin waits for {after})"),
        };
        // Many a protocol waits for the end of a line.
        if phase == Phase::Tls { over + "; does the server speak TLS there?" } else { over }
    }
}
