//! Signals and their names.

use rustix::process::Signal as Raw;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr};

/// A signal that one process may send to another, e.g. `SIGHUP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(Raw);

/// Names of the signals that the configuration may use.
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
    /// Request to reload the configuration, by convention.
    pub const HUP: Self = Self(Raw::HUP);
    /// Interrupt from the keyboard (Ctrl-C).
    pub const INT: Self = Self(Raw::INT);
    /// Request to terminate.
    pub const TERM: Self = Self(Raw::TERM);
    /// Termination that a process cannot handle.
    pub const KILL: Self = Self(Raw::KILL);
    /// Quit from the keyboard (Ctrl-\).
    pub const QUIT: Self = Self(Raw::QUIT);
    /// Signal with a meaning that the program defines.
    pub const USR1: Self = Self(Raw::USR1);
    /// Signal with a meaning that the program defines.
    pub const USR2: Self = Self(Raw::USR2);
    /// Continuation of a stopped process.
    pub const CONT: Self = Self(Raw::CONT);
    /// Change of the terminal's size.
    pub const WINCH: Self = Self(Raw::WINCH);

    /// Returns the number of the signal.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.as_raw()
    }

    /// Returns whether a terminal sends this signal to all processes of its foreground group.
    pub(super) fn is_sent_by_terminal(self) -> bool {
        [Self::INT, Self::QUIT, Self::WINCH].contains(&self)
    }

    pub(crate) fn raw(self) -> Raw {
        self.0
    }
}

/// An unknown signal name. The message lists the supported signals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal `{name}`; expected one of {}", NAMES.map(|(name, _)| name).join(", "))]
pub struct SignalError {
    name: String,
}

/// Accepts names with or without `SIG`, in upper or lower case.
impl FromStr for Signal {
    type Err = SignalError;

    fn from_str(text: &str) -> Result<Self, SignalError> {
        let upper = text.trim().to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        NAMES
            .iter()
            .find(|(name, _)| name.strip_prefix("SIG") == Some(bare))
            .map(|&(_, raw)| Self(raw))
            .ok_or_else(|| SignalError { name: reloader_util::sanitize::sanitize(text) })
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
    fn signal_names_are_parsed() {
        for text in ["SIGHUP", "HUP", "sighup", "hup"] {
            assert_eq!(text.parse(), Ok(Signal::HUP), "{text}");
        }
        assert_eq!(Signal::USR1.to_string(), "SIGUSR1");
        let error = "SIGNIL".parse::<Signal>().expect_err("unknown signal").to_string();
        assert!(error.starts_with("unknown signal `SIGNIL`; expected one of SIGTERM, "), "{error}");
    }
}
