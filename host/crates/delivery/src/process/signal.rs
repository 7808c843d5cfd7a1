//! Signals, by the names that people write.

use rustix::process::Signal as Raw;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr};

/// A signal that one process may send to another, e.g. `SIGHUP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(Raw);

/// Those that make sense to send, by name.
const NAMES: [(&str, Raw); 12] = [
    ("SIGTERM", Raw::TERM),
    ("SIGHUP", Raw::HUP),
    ("SIGINT", Raw::INT),
    ("SIGQUIT", Raw::QUIT),
    ("SIGKILL", Raw::KILL),
    ("SIGUSR1", Raw::USR1),
    ("SIGUSR2", Raw::USR2),
    ("SIGALRM", Raw::ALARM),
    ("SIGWINCH", Raw::WINCH),
    ("SIGCONT", Raw::CONT),
    ("SIGSTOP", Raw::STOP),
    ("SIGTSTP", Raw::TSTP),
];

impl Signal {
    /// What asks a process to read its configuration again, by custom.
    pub const HUP: Self = Self(Raw::HUP);
    /// What Ctrl-C sends.
    pub const INT: Self = Self(Raw::INT);
    /// What asks a process to end.
    pub const TERM: Self = Self(Raw::TERM);
    /// What ends a process without asking.
    pub const KILL: Self = Self(Raw::KILL);
    /// What Ctrl-\ sends.
    pub const QUIT: Self = Self(Raw::QUIT);
    /// Means what the program says.
    pub const USR1: Self = Self(Raw::USR1);
    /// Means what the program says.
    pub const USR2: Self = Self(Raw::USR2);
    /// What wakes a process that was stopped.
    pub const CONT: Self = Self(Raw::CONT);
    /// The terminal's size has changed.
    pub const WINCH: Self = Self(Raw::WINCH);

    /// The number that the system knows it by.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.as_raw()
    }

    pub(crate) fn raw(self) -> Raw {
        self.0
    }
}

/// What was written is no signal. Says which there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a signal; expected one of {}", NAMES.map(|(name, _)| name).join(", "))]
pub struct SignalError {
    given: String,
}

/// With or without `SIG`, in upper or lower case.
impl FromStr for Signal {
    type Err = SignalError;

    fn from_str(text: &str) -> Result<Self, SignalError> {
        let upper = text.trim().to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        NAMES
            .iter()
            .find(|(name, _)| name.strip_prefix("SIG") == Some(bare))
            .map(|&(_, raw)| Self(raw))
            .ok_or_else(|| SignalError { given: reloader_util::sanitize::sanitize(text) })
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, raw)| *raw == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "signal {}", self.number()),
        }
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Signal {
    fn schema_name() -> Cow<'static, str> {
        "Signal".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "enum": NAMES.map(|(name, _)| name),
            "description": "A signal, e.g. `SIGHUP`",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_goes_by_the_names_that_people_write() {
        for text in ["SIGHUP", "HUP", "sighup", "hup"] {
            assert_eq!(text.parse(), Ok(Signal::HUP), "{text}");
        }
        assert_eq!(Signal::USR1.to_string(), "SIGUSR1");
        let error = "SIGNIL".parse::<Signal>().expect_err("there is none").to_string();
        assert!(
            error.starts_with("`SIGNIL` is not a signal; expected one of SIGTERM, "),
            "{error}"
        );
    }
}
