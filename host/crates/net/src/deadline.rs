//! Deadlines of network operations, and the error messages for exceeded ones.

use humantime::format_duration;
use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// Timeouts that a plugin requests. The limits of the host apply as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestTimeouts {
    /// Timeout for opening the connection.
    pub connect: Option<Duration>,
    /// Timeout for receiving the head of the response.
    pub first_byte: Option<Duration>,
    /// Timeout from one part of the body to the next.
    pub between_bytes: Option<Duration>,
}

/// Timeout for a connection or a response if the plugin requests none.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// Upper bound of a timeout that a plugin requests.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Upper bound of a configured limit: 100 years. It prevents an overflow of [`Instant`].
const MAX_LIMIT: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Phase of a connection or request, named in the error of a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    AwaitingResponse,
    ReadingCertificates,
    Resolving,
    Connecting,
    TlsHandshake,
    ReceivingBody,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwaitingResponse => "waiting for the response",
            Self::ReadingCertificates => "reading the certificate files",
            Self::Resolving => "resolving the name",
            Self::Connecting => "connecting",
            Self::TlsHandshake => "performing the TLS handshake",
            Self::ReceivingBody => "receiving the body",
        })
    }
}

/// Current phase of an operation, shared with the code that reports its timeout.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU8);

impl Progress {
    const PHASES: [Phase; 6] = [
        Phase::AwaitingResponse,
        Phase::ReadingCertificates,
        Phase::Resolving,
        Phase::Connecting,
        Phase::TlsHandshake,
        Phase::ReceivingBody,
    ];

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        Self::PHASES[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

/// Deadline of an operation, with the setting that determines it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    timeout: Duration,
    origin: Origin,
}

/// Setting that a deadline comes from, named in the error of a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Timeout that the plugin requests.
    Plugin,
    /// Default of the host, or its maximum if the plugin requests more.
    Host,
    /// Limit of the source with this name, such as `http-idle`.
    Limit(&'static str),
}

impl Deadline {
    /// Creates a deadline from the timeout that the plugin requests, up to `max`, or from `default`.
    pub(crate) fn requested(
        from: Instant,
        timeout: Option<Duration>,
        default: Duration,
        max: Duration,
    ) -> Self {
        match timeout {
            Some(timeout) if timeout <= max => {
                Self { at: from + timeout, timeout, origin: Origin::Plugin }
            }
            _ => {
                let timeout = timeout.unwrap_or(default).min(max);
                Self { at: from + timeout, timeout, origin: Origin::Host }
            }
        }
    }

    /// Creates a deadline from a limit of the host.
    pub(crate) fn limit(from: Instant, timeout: Duration, name: &'static str) -> Self {
        let timeout = timeout.min(MAX_LIMIT);
        Self { at: from + timeout, timeout, origin: Origin::Limit(name) }
    }

    /// Returns the earlier deadline, or `other` if both are equal.
    pub(crate) fn earlier(self, other: Self) -> Self {
        if self.at < other.at { self } else { other }
    }

    /// Returns the later deadline, or `other` if both are equal.
    pub(crate) fn later(self, other: Self) -> Self {
        if self.at > other.at { self } else { other }
    }

    /// Returns whether a configurable limit determines the deadline.
    pub(crate) fn is_limit(&self) -> bool {
        matches!(self.origin, Origin::Limit(_))
    }

    /// Returns the error message for an operation that exceeded the deadline in `phase`.
    pub(crate) fn timeout_message(&self, phase: Phase) -> String {
        let timeout = format_duration(self.timeout).to_string().replace(' ', "");
        let origin = match self.origin {
            Origin::Plugin => format!("plugin timeout {timeout}"),
            Origin::Host => format!("host timeout {timeout}"),
            Origin::Limit(name) => format!("limit `{name}` is {timeout}"),
        };
        let message = format!("timed out while {phase} ({origin})");
        // A server without TLS may wait silently for the end of a line, so the handshake times out.
        if phase == Phase::TlsHandshake { message + "; " + NOT_TLS } else { message }
    }
}

/// Hint for a failed TLS handshake with a server that may not use TLS.
pub(crate) const NOT_TLS: &str = "does the server speak TLS on this port?";
