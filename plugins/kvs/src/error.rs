//! Errors of requests and their conversion to failures for the host.

use guest_sdk::{Failure, Target};
use std::fmt;

/// Error of a request, classified by the required reaction.
#[derive(Debug)]
pub(crate) enum Error {
    /// The connection attempt failed. The message of the host already names the address.
    Unreachable(Failure),
    /// The connection is unusable. A new connection may succeed.
    Lost(Failure),
    /// The server sent an error reply. The connection remains usable.
    Reply(ErrorReply),
    /// The server sent a reply that cannot be used. The connection remains usable.
    Unusable(Failure),
}

/// RESP error reply: a code and usually a message, e.g. `WRONGTYPE Operation against a key …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorReply(pub(crate) String);

impl Error {
    pub(crate) fn lost(why: impl Into<Failure>) -> Self {
        Self::Lost(why.into())
    }

    pub(crate) fn unusable(why: impl fmt::Display) -> Self {
        Self::Unusable(Failure::permanent(why))
    }

    /// Creates an error for a reply of the wrong type or shape.
    pub(crate) fn unexpected(command: &str) -> Self {
        Self::unusable(format_args!("unexpected reply to {command}"))
    }

    /// Creates an error for a reply without a request. Later replies can no longer be assigned to requests.
    pub(crate) fn unsolicited() -> Self {
        Self::lost(Failure::transient("unsolicited reply"))
    }

    /// Replaces an error reply with the more specific failure that `explain` returns, if any.
    pub(crate) fn explain_reply(
        self,
        explain: impl FnOnce(&ErrorReply) -> Option<Failure>,
    ) -> Self {
        match self {
            Self::Reply(reply) => explain(&reply).map_or(Self::Reply(reply), Self::Unusable),
            other => other,
        }
    }

    /// Converts a generic error reply to `AUTH` to a denied failure. Servers before Redis 6 have no specific
    /// code for a failed authentication.
    pub(crate) fn into_login_error(self) -> Self {
        self.explain_reply(|reply| {
            reply
                .is_generic()
                .then(|| Failure::denied(format_args!("authentication failed: {reply}")))
        })
    }

    /// Converts the error to a failure for the host, prefixed with the server's address.
    pub(crate) fn into_failure(self, server: &Target) -> Failure {
        match self {
            Self::Unreachable(failure) => failure,
            Self::Lost(failure) | Self::Unusable(failure) => failure.context(server),
            Self::Reply(reply) => Failure::from(reply).context(server),
        }
    }
}

impl ErrorReply {
    /// Returns the error code: the first word, e.g. `WRONGTYPE`.
    pub(crate) fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// Returns whether a retry may succeed soon.
    pub(crate) fn is_transient(&self) -> bool {
        let code = self.code();
        ["LOADING", "BUSY", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN"].contains(&code)
            || self.0.starts_with("ERR max number of clients")
    }

    /// Returns whether the code is the generic `ERR` of an invalid or unknown command.
    pub(crate) fn is_generic(&self) -> bool {
        self.code() == "ERR" && !self.is_transient()
    }

    /// Returns whether the command is unavailable: unknown to the server or denied by the user's ACL.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.is_generic() || ["NOPERM", "NOPROTO"].contains(&self.code())
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ErrorReply> for Failure {
    fn from(reply: ErrorReply) -> Self {
        if reply.is_transient() {
            return Self::transient(reply);
        }
        match reply.code() {
            "NOAUTH" => Self::denied(format_args!(
                "authentication required: set `password`, and `username` if needed ({reply})"
            )),
            "WRONGPASS" => Self::denied(format_args!("authentication failed: {reply}")),
            "NOPERM" => Self::denied(format_args!("permission denied: {reply}")),
            "DENIED" => Self::denied(reply),
            "MOVED" | "ASK" => Self::permanent(format_args!(
                "the key is on another node of the cluster: set that node in `url` ({reply})"
            )),
            _ => Self::permanent(reply),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_sdk::FailureKind::{self, Denied, Permanent};

    #[test]
    fn error_code_determines_failure_kind() {
        const TRANSIENT: FailureKind = FailureKind::Transient { retry_after: None };
        for (line, kind) in [
            ("NOAUTH Authentication required.", Denied),
            ("WRONGPASS invalid username-password pair", Denied),
            ("NOPERM this user has no permissions to run the 'get' command", Denied),
            ("DENIED Redis is running in protected mode", Denied),
            ("LOADING Redis is loading the dataset in memory", TRANSIENT),
            ("BUSY Redis is busy running a script", TRANSIENT),
            ("MASTERDOWN Link with MASTER is down", TRANSIENT),
            ("READONLY You can't write against a read only replica.", TRANSIENT),
            ("TRYAGAIN Multiple keys request during rehashing of slot", TRANSIENT),
            ("ERR max number of clients reached", TRANSIENT),
            ("MOVED 3999 127.0.0.1:6381", Permanent),
            ("ERR unknown command 'GET'", Permanent),
        ] {
            assert_eq!(Failure::from(ErrorReply(line.into())).kind, kind, "{line}");
        }
    }
}
