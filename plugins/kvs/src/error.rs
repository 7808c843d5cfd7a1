//! What can go wrong, as far as the steps after it differ, and what the host is told of it.

use guest_sdk::{Failure, Target};
use std::fmt;

/// What can go wrong.
#[derive(Debug)]
pub(crate) enum Error {
    /// No connection could be made. The host's words for it name the address.
    Unreachable(Failure),
    /// The connection cannot be used any more.
    Lost(Failure),
    /// The server answered that it will not.
    Reply(ErrorReply),
    /// The server answered, and its answer is of no use.
    Unusable(Failure),
}

/// The server's words: a code, and mostly a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorReply(pub(crate) String);

impl Error {
    pub(crate) fn lost(why: impl Into<Failure>) -> Self {
        Self::Lost(why.into())
    }

    pub(crate) fn unusable(why: impl fmt::Display) -> Self {
        Self::Unusable(Failure::permanent(why))
    }

    /// An answer that no server gives to what was asked.
    pub(crate) fn unexpected(command: &str) -> Self {
        Self::unusable(format_args!("the answer to {command} makes no sense"))
    }

    /// Nobody knows what the next answer would be one to.
    pub(crate) fn unsolicited() -> Self {
        Self::lost(Failure::transient("an answer that nobody asked for"))
    }

    /// The same error, in better words where the one who asked has some for this reply.
    pub(crate) fn explain_reply(self, explain: impl FnOnce(&ErrorReply) -> Option<Failure>) -> Self {
        match self {
            Self::Reply(reply) => {
                explain(&reply).map_or(Self::Reply(reply), Self::Unusable)
            }
            other => other,
        }
    }

    /// A refused login. Servers before Redis 6 have no code of their own for it.
    pub(crate) fn into_login_error(self) -> Self {
        self.explain_reply(|reply| {
            reply
                .is_generic()
                .then(|| Failure::denied(format_args!("the server refused the login: {reply}")))
        })
    }

    /// What the host is told, with the server's name in front.
    pub(crate) fn into_failure(self, server: &Target) -> Failure {
        match self {
            Self::Unreachable(failure) => failure,
            Self::Lost(failure) | Self::Unusable(failure) => failure.context(server),
            Self::Reply(reply) => Failure::from(reply).context(server),
        }
    }
}

impl ErrorReply {
    pub(crate) fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// Whether it may be different in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        let code = self.code();
        ["LOADING", "BUSY", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN"].contains(&code)
            || self.0.starts_with("ERR max number of clients")
    }

    /// Whether it says no more than that the command was wrong.
    pub(crate) fn is_generic(&self) -> bool {
        self.code() == "ERR" && !self.is_transient()
    }

    /// Whether the server does not know the command, or keeps it from this user.
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
                "the server wants a login: set `password`, and `username` if there is one ({reply})"
            )),
            "WRONGPASS" => Self::denied(format_args!("the server refused the login: {reply}")),
            "NOPERM" => Self::denied(format_args!("the user lacks a permission: {reply}")),
            "DENIED" => Self::denied(reply),
            "MOVED" | "ASK" => Self::permanent(format_args!(
                "another node of the cluster holds it: name that one in `url` ({reply})"
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
    fn the_code_of_a_refusal_decides_what_the_host_makes_of_it() {
        const PASSING: FailureKind = FailureKind::Transient { retry_after: None };
        for (line, kind) in [
            ("NOAUTH Authentication required.", Denied),
            ("WRONGPASS invalid username-password pair", Denied),
            ("NOPERM this user has no permissions to run the 'get' command", Denied),
            ("DENIED Redis is running in protected mode", Denied),
            ("LOADING Redis is loading the dataset in memory", PASSING),
            ("BUSY Redis is busy running a script", PASSING),
            ("MASTERDOWN RespConnection with MASTER is down", PASSING),
            ("READONLY You can't write against a read only replica.", PASSING),
            ("TRYAGAIN Multiple keys request during rehashing of slot", PASSING),
            ("ERR max number of clients reached", PASSING),
            ("MOVED 3999 127.0.0.1:6381", Permanent),
            ("ERR unknown command 'GET'", Permanent),
        ] {
            assert_eq!(Failure::from(ErrorReply(line.into())).kind, kind, "{line}");
        }
    }
}
