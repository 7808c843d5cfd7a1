//! Limits on the resources that a plugin may use.

use bytesize::ByteSize;
use humantime::{format_duration, parse_duration};
use std::{fmt, time::Duration};

/// Defines [`Limits`] from a list of limits, with access by name.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:literal $field:ident: $type:ty = $default:expr;)+) => {
        /// Limits on the resources of a plugin, for each of its sources. A call that exceeds a limit fails, and
        /// its error names the limit. The source keeps its last good value. A limit on a rate (per second) delays or
        /// suppresses the excess instead.
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
            /// Returns the name, the value and the description of each limit.
            pub fn list(&self) -> impl Iterator<Item = (&'static str, String, &'static str)> {
                [$(($name, self.$field.display(), concat!($($doc),+).trim_ascii_start()),)+].into_iter()
            }

            /// Sets a limit by its name, to a value in text form: `64MiB`, `10s` or `100`.
            ///
            /// # Errors
            ///
            /// [`LimitError`] for an unknown name or an invalid value.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), LimitError> {
                match name {
                    $($name => {
                        self.$field = LimitValue::parse(value).map_err(|expected| LimitError::Value {
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
    // Enough for a plugin that handles a value of the maximum size, and less than the last-level cache of common
    // processors.
    /// Maximum linear memory of all instances of a source together.
    "memory" memory: usize = 24 << 20;
    /// Maximum number of table elements of an instance.
    "table-elements" table_elements: Count = Count(100_000);
    /// Maximum number of core instances of a component. The same limit applies to its memories and to its tables.
    "instances" instances: Count = Count(64);
    /// Maximum duration of a call that opens or reads the source, starts a watch or validates a value, including
    /// waiting.
    "call-timeout" call_timeout: Duration = Duration::from_secs(30);
    /// Maximum CPU time of a call. Waiting does not count.
    "call-cpu" call_cpu: Duration = Duration::from_secs(2);
    /// Maximum time between two events of a watch. A plugin reports regularly that its watch works, also without
    /// changes. A silent watch counts as crashed, and is reopened.
    "liveness" liveness: Duration = Duration::from_secs(60);
    /// Maximum number of watch events per second. Excess events are delayed.
    "events" events: Count = Count(1_000);
    /// Time after which an access to a file that has not returned counts as failed. If the file system does not answer,
    /// the access cannot be interrupted: it occupies one of the two accesses that a source can make at the same time.
    "file-access" file_access: Duration = Duration::from_secs(10);
    /// Maximum size of a value, and of a file that the plugin reads.
    "value" value: usize = 8 << 20;
    /// Maximum bytes of values per second. A number below the limit `value` is raised to that limit. Excess values are
    /// delayed.
    "value-rate" value_rate: usize = 8 << 20;
    /// Maximum bytes that the plugin passes to the host in one call. A number below the limit `value` plus 1 MiB is
    /// raised to that sum.
    "call-data" call_data: usize = 16 << 20;
    /// Maximum number of open handles of an instance: connections, watches, timers and others.
    "handles" handles: Count = Count(256);
    /// Maximum number of open connections and active requests of a source.
    "connections" connections: Count = Count(32);
    /// Maximum time to connect: name resolution, dialling and the TLS handshake.
    "connect-timeout" connect_timeout: Duration = Duration::from_secs(10);
    /// Maximum size of the header of an HTTP request, and of an HTTP response.
    "http-head" http_head: usize = 64 << 10;
    /// Maximum size of the body of an HTTP response after decompression. An event stream is one body.
    "http-body" http_body: usize = 1 << 30;
    /// Maximum time between two chunks of the body of an HTTP response. Event streams may be silent for long.
    "http-idle" http_idle: Duration = Duration::from_secs(3_600);
    /// Maximum duration of an HTTP request, until its response body has been read.
    "http-total" http_total: Duration = Duration::from_secs(86_400);
    /// Maximum number of random bytes requested in one call.
    "random" random: usize = 64 << 10;
    /// Maximum number of log lines per second, and in one burst. A line longer than 256 bytes counts as several. Excess
    /// lines are suppressed and counted.
    "log-lines" log_lines: Count = Count(100);
    /// Maximum size of a component. Applies when a plugin is loaded.
    "component-size" component_size: usize = 24 << 20;
    /// Maximum size of a compiled component. Applies when a plugin is loaded.
    "compiled-size" compiled_size: usize = 64 << 20;
    /// Maximum time to compile a component. Applies when a plugin is loaded.
    "compile-time" compile_time: Duration = Duration::from_secs(30);
    // Measured: the compilation of a component to 55 MB of machine code takes a third of this limit.
    /// Maximum address space of the process that compiles a component. Applies when a plugin is loaded.
    "compile-memory" compile_memory: usize = 1 << 30;
}

/// Wall-clock time for the host's part of a fetch or a validation, in addition to the timeouts of its two guest calls.
const CALL_OVERHEAD: Duration = Duration::from_secs(1);

impl Limits {
    /// Returns the name and the value of a limit, as error messages cite them.
    pub(crate) fn cite(&self, name: &str) -> String {
        let value = self.list().find(|(known, ..)| *known == name).map(|(_, value, _)| value);
        format!("limit `{name}` is {}", value.unwrap_or_default())
    }

    /// Returns the timeout of a fetch or a validation: two guest calls (`open`, and `reload` or `validate`), and the
    /// host's part.
    pub(crate) fn two_calls_timeout(&self) -> Duration {
        self.call_timeout.saturating_mul(2).saturating_add(CALL_OVERHEAD)
    }

    /// Returns the effective limit `value-rate`: at least one value of the maximum size per second.
    pub(crate) fn value_rate(&self) -> usize {
        self.value_rate.max(self.value)
    }

    /// Returns the effective limit `call-data`: at least one value of the maximum size, plus 1 MiB.
    pub(crate) fn call_data(&self) -> usize {
        self.call_data.max(self.value.saturating_add(1 << 20))
    }
}

/// Error of setting a limit by its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// There is no limit of this name.
    #[error("unknown limit `{name}`; available: {}", names())]
    Unknown {
        /// Unknown name.
        name: String,
    },
    /// The value is invalid for the limit.
    #[error("limit `{name}`: expected {expected}, got `{got}`")]
    Value {
        /// Name of the limit.
        name: &'static str,
        /// Description of valid values.
        expected: &'static str,
        /// Invalid value.
        got: String,
    },
}

fn names() -> String {
    let names: Vec<_> = Limits::default().list().map(|(name, ..)| format!("`{name}`")).collect();
    names.join(", ")
}

/// Value of a limit that counts items, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u32);

impl Count {
    /// Returns the number as a `usize`.
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

/// Type of a limit's value, which is parsed from text and displayed as text.
trait LimitValue: Sized {
    /// Parses a value. The error describes valid values.
    fn parse(text: &str) -> Result<Self, &'static str>;
    /// Returns the value as text, without rounding: [`parse`](Self::parse) converts the text back to the same value.
    fn display(&self) -> String;
}

/// A limit of type `usize` is a size in bytes.
impl LimitValue for usize {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let expected = "a size, e.g. `512KiB` or `64MiB`";
        let size: ByteSize = text.parse().map_err(|_| expected)?;
        size.as_u64().try_into().map_err(|_| expected)
    }

    fn display(&self) -> String {
        // `Display` of `ByteSize` would round the value.
        [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
            .into_iter()
            .find(|(unit, _)| *self >= *unit && self.is_multiple_of(*unit))
            .map_or_else(|| format!("{self}B"), |(unit, name)| format!("{}{name}", self / unit))
    }
}

/// Maximum duration that a limit accepts. A longer duration is rejected as a mistake.
const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);

impl LimitValue for Duration {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match parse_duration(text) {
            Ok(duration) if !duration.is_zero() && duration <= MAX_DURATION => Ok(duration),
            _ => Err("a duration of at most a year, e.g. `500ms`, `10s` or `5m`"),
        }
    }

    fn display(&self) -> String {
        format_duration(*self).to_string().replace(' ', "")
    }
}

impl LimitValue for Count {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text.parse() {
            Ok(count @ 1..) => Ok(Self(count)),
            _ => Err("a positive integer"),
        }
    }

    fn display(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_values_can_be_set() {
        let limits = Limits::default();
        let mut other = limits.clone();
        for (name, value, help) in limits.list() {
            other.set(name, &value).unwrap_or_else(|error| panic!("{error}"));
            assert!(!help.is_empty() && !help.starts_with(' '), "{name}: {help:?}");
        }
        assert_eq!(other, limits);
        assert_eq!(limits.cite("memory"), "limit `memory` is 24MiB");
        assert_eq!(limits.cite("call-timeout"), "limit `call-timeout` is 30s");
    }

    #[test]
    fn limit_values_accept_units() {
        let mut limits = Limits::default();
        for (name, value) in [("memory", "1.5 MiB"), ("call-cpu", "1m 30s"), ("log-lines", "7")] {
            limits.set(name, value).unwrap_or_else(|error| panic!("{error}"));
        }
        assert_eq!(limits.memory, 3 << 19);
        assert_eq!(limits.call_cpu, Duration::from_secs(90));
        assert_eq!(limits.log_lines, Count(7));
    }

    #[test]
    fn invalid_limit_error_names_alternatives() {
        let mut limits = Limits::default();
        let mut error_of = |name, value| match limits.set(name, value) {
            Ok(()) => panic!("{name}={value} was accepted"),
            Err(error) => error.to_string(),
        };
        assert!(
            error_of("memroy", "1MiB").starts_with("unknown limit `memroy`; available: `memory`, ")
        );
        assert_eq!(
            error_of("memory", "much"),
            "limit `memory`: expected a size, e.g. `512KiB` or `64MiB`, got `much`"
        );
        for (name, value) in [
            ("memory", "-1"),
            ("call-cpu", "0s"),
            ("call-cpu", "soon"),
            ("call-timeout", "10000y"),
            ("handles", "0"),
        ] {
            assert!(error_of(name, value).contains("expected"), "{name}={value}");
        }
        assert_eq!(limits, Limits::default());
    }
}
