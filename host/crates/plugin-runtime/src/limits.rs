//! How much a plugin may use.

use bytesize::ByteSize;
use humantime::{format_duration, parse_duration};
use std::{fmt, time::Duration};

/// Makes [`Limits`] of a list, and all that is done with a limit by its name.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:literal $field:ident: $type:ty = $default:expr;)+) => {
        /// How much a plugin may use, for each of its sources. Whoever goes beyond a limit is stopped, and
        /// told which; the source keeps its last good value.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Limits {
            /// The names of all limits, each with its value and what it limits.
            pub fn list(&self) -> impl Iterator<Item = (&'static str, String, &'static str)> {
                [$(($name, self.$field.shown(), concat!($($doc),+).trim_ascii_start()),)+].into_iter()
            }

            /// Sets a limit by its name, to a value as people write it: `64MiB`, `10s`, `100`.
            ///
            /// # Errors
            ///
            /// [`LimitError`], for a name that is none and a value that cannot be.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), LimitError> {
                match name {
                    $($name => {
                        self.$field = Amount::read(value).map_err(|expected| LimitError::Value {
                            name: $name,
                            expected,
                            got: value.into(),
                        })?;
                    })+
                    _ => return Err(LimitError::Unknown { name: name.into() }),
                }
                Ok(())
            }
        }
    };
}

limits! {
    // Room for the largest value, and less than the cache that processors share.
    /// Linear memory, of all instances of a source together.
    "memory" memory: usize = 24 << 20;
    /// Elements of an instance's tables.
    "table-elements" table_elements: Count = Count(100_000);
    /// Instances of modules and components that a component is made of; memories and tables, too.
    "instances" instances: Count = Count(64);
    /// Time of one call to open, read or arm, waiting included.
    "call-timeout" call_timeout: Duration = Duration::from_secs(30);
    /// Computing in one call, waiting not included.
    "call-cpu" call_cpu: Duration = Duration::from_secs(2);
    /// Time in which a watch must say something.
    "liveness" liveness: Duration = Duration::from_secs(60);
    /// Events of a watch in a second; it is slowed down to that.
    "events" events: Count = Count(1_000);
    /// Size of a value, and of a file that is read.
    "value" value: usize = 8 << 20;
    /// Bytes of values in a second, at least the size of one; who gives more is slowed down to that.
    "value-rate" value_rate: usize = 8 << 20;
    /// What is handed to the host in one call: at least 1 MiB more than a value may have.
    "call-data" call_data: usize = 16 << 20;
    /// Open connections, watches, timers and other handles of an instance.
    "handles" handles: Count = Count(256);
    /// Connections that are open, and requests that are under way, of a source.
    "connections" connections: Count = Count(32);
    /// Time for a connection: resolving, dialling and TLS.
    "connect-timeout" connect_timeout: Duration = Duration::from_secs(10);
    /// Header fields of a request, and the head of a response.
    "http-head" http_head: usize = 64 << 10;
    /// Body of an HTTP response, decompressed. A stream of events is one body.
    "http-body" http_body: usize = 1 << 30;
    /// Silence within the body of an HTTP response. A stream of events may be silent for long.
    "http-idle" http_idle: Duration = Duration::from_secs(3_600);
    /// Time of an HTTP request in all, until its body has been read.
    "http-total" http_total: Duration = Duration::from_secs(86_400);
    /// Random bytes asked for in one call.
    "random" random: usize = 64 << 10;
    /// Lines in the log in a second; the rest is counted.
    "log-lines" log_lines: Count = Count(100);
    /// Size of a component. It applies when a plugin is loaded.
    "component-size" component_size: usize = 24 << 20;
    /// Size of what a component is compiled to. It applies when a plugin is loaded.
    "compiled-size" compiled_size: usize = 64 << 20;
    /// Time that compiling a component may take. It applies when a plugin is loaded.
    "compile-time" compile_time: Duration = Duration::from_secs(30);
    // What compiles to 55 MB takes a third of it.
    /// Memory of a process that compiles a component, addresses that it does not use included.
    "compile-memory" compile_memory: usize = 1 << 30;
}

impl Limits {
    /// A limit in an error: its name, and what it is.
    pub(crate) fn cite(&self, name: &str) -> String {
        let value = self.list().find(|(known, ..)| *known == name).map(|(_, value, _)| value);
        format!("limit `{name}` is {}", value.unwrap_or_default())
    }

    /// What values may have in a second: one of its full size in any case.
    pub(crate) fn value_rate(&self) -> usize {
        self.value_rate.max(self.value)
    }

    /// What may be handed over in one call: a value of its full size in any case.
    pub(crate) fn call_data(&self) -> usize {
        self.call_data.max(self.value.saturating_add(1 << 20))
    }
}

/// A limit cannot be set so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No limit is called so.
    #[error("there is no limit `{name}`; there are {}", names())]
    Unknown {
        /// What was given.
        name: String,
    },
    /// The value is not one for this limit.
    #[error("limit `{name}`: expected {expected}, got `{got}`")]
    Value {
        /// The limit.
        name: &'static str,
        /// What its value looks like.
        expected: &'static str,
        /// What was given.
        got: String,
    },
}

fn names() -> String {
    let names: Vec<_> = Limits::default().list().map(|(name, ..)| format!("`{name}`")).collect();
    names.join(", ")
}

/// A number of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u32);

impl Count {
    /// As a number of things in memory.
    #[must_use]
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A limit's value, as people write it.
trait Amount: Sized {
    fn read(text: &str) -> Result<Self, &'static str>;
    fn shown(&self) -> String;
}

/// A size, in bytes.
impl Amount for usize {
    fn read(text: &str) -> Result<Self, &'static str> {
        let expected = "a size, e.g. `512KiB` or `64MiB`";
        let size: ByteSize = text.parse().map_err(|_| expected)?;
        size.as_u64().try_into().map_err(|_| expected)
    }

    fn shown(&self) -> String {
        // Exactly, and without a space: as it may be written.
        [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
            .into_iter()
            .find(|(unit, _)| *self >= *unit && self.is_multiple_of(*unit))
            .map_or_else(|| format!("{self}B"), |(unit, name)| format!("{}{name}", self / unit))
    }
}

/// Longer times are mistakes.
const TIME_MAX: Duration = Duration::from_secs(366 * 86_400);

impl Amount for Duration {
    fn read(text: &str) -> Result<Self, &'static str> {
        match parse_duration(text) {
            Ok(duration) if !duration.is_zero() && duration <= TIME_MAX => Ok(duration),
            _ => Err("a time of up to a year, e.g. `500ms`, `10s` or `5m`"),
        }
    }

    fn shown(&self) -> String {
        format_duration(*self).to_string().replace(' ', "")
    }
}

impl Amount for Count {
    fn read(text: &str) -> Result<Self, &'static str> {
        match text.parse() {
            Ok(count @ 1..) => Ok(Self(count)),
            _ => Err("a whole number from 1 up"),
        }
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_limit_is_how_it_is_set() {
        let limits = Limits::default();
        let mut other = limits.clone();
        for (name, value, what) in limits.list() {
            other.set(name, &value).unwrap_or_else(|error| panic!("{error}"));
            assert!(!what.is_empty() && !what.starts_with(' '), "{name}: {what:?}");
        }
        assert_eq!(other, limits);
        assert_eq!(limits.cite("memory"), "limit `memory` is 24MiB");
        assert_eq!(limits.cite("call-timeout"), "limit `call-timeout` is 30s");
    }

    #[test]
    fn limits_are_set_as_people_write_them() {
        let mut limits = Limits::default();
        for (name, value) in [("memory", "1.5 MiB"), ("call-cpu", "1m 30s"), ("log-lines", "7")] {
            limits.set(name, value).unwrap_or_else(|error| panic!("{error}"));
        }
        assert_eq!(limits.memory, 3 << 19);
        assert_eq!(limits.call_cpu, Duration::from_secs(90));
        assert_eq!(limits.log_lines, Count(7));
    }

    #[test]
    fn what_cannot_be_a_limit_is_refused_with_what_can() {
        let mut limits = Limits::default();
        let mut refusal = |name, value| match limits.set(name, value) {
            Ok(()) => panic!("{name}={value} was taken"),
            Err(error) => error.to_string(),
        };
        assert!(
            refusal("memroy", "1MiB")
                .starts_with("there is no limit `memroy`; there are `memory`, ")
        );
        assert_eq!(
            refusal("memory", "much"),
            "limit `memory`: expected a size, e.g. `512KiB` or `64MiB`, got `much`"
        );
        for (name, value) in [
            ("memory", "-1"),
            ("call-cpu", "0s"),
            ("call-cpu", "soon"),
            ("call-timeout", "10000y"),
            ("handles", "0"),
        ] {
            assert!(refusal(name, value).contains("expected"), "{name}={value}");
        }
        assert_eq!(limits, Limits::default());
    }
}
