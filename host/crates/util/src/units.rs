//! Durations and sizes with units, as in a configuration file: `10s`, `32MiB`.

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// Duration from 1 ms to 366 days: `500ms`, `10s`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// Size in bytes: `4096`, `64KiB`, `8MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Error for a text that is not a valid duration or size. The message states the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(&'static str);

impl FromStr for Time {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let expected = "expected a number and its unit, e.g. `500ms`, `10s`, `5m`";
        let duration = humantime::parse_duration(text).map_err(|_| UnitError(expected))?;
        if duration < Duration::from_millis(1) {
            return Err(UnitError("expected at least `1ms`"));
        }
        if duration > Duration::from_secs(366 * 24 * 60 * 60) {
            return Err(UnitError("expected at most a year"));
        }
        Ok(Self(duration))
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let size: Result<ByteSize, _> = text.parse();
        size.map(|size| Self(size.as_u64()))
            .map_err(|_| UnitError("expected a number of bytes, e.g. `4096`, `64KiB`, `8MiB`"))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.0).display().iec().fmt(f)
    }
}

/// Value of `format` for a duration in a JSON Schema.
pub const TIME: &str = "duration-with-unit";
/// Value of `format` for a size in a JSON Schema.
pub const SIZE: &str = "size-with-unit";

macro_rules! as_text {
    ($unit:ty, $name:literal, $format:expr, $expected:literal, $description:literal) => {
        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                text(deserializer, $expected)?.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $unit {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "description": $description })
            }
        }
    };
}
as_text!(Time, "Time", TIME, "a string such as \"10s\"", "A duration, e.g. `500ms`, `10s`, `5m`");
as_text!(
    Size,
    "Size",
    SIZE,
    "a string such as \"64KiB\"",
    "A number of bytes, e.g. `64KiB`, `8MiB`"
);

/// Deserialises a string.
///
/// # Errors
///
/// Returns an error for a value of another type. The message contains `expected`.
pub fn text<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<String, D::Error> {
    struct Visitor(&'static str);

    impl de::Visitor<'_> for Visitor {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.into())
        }
    }
    deserializer.deserialize_str(Visitor(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_units_parse_and_invalid_ones_fail() {
        assert_eq!("1h 30m".parse(), Ok(Time(Duration::from_secs(5400))));
        assert_eq!("64KiB".parse(), Ok(Size(64 << 10)));
        for invalid in ["", "10", "0s", "-1s", "2years", "soon"] {
            assert!(invalid.parse::<Time>().is_err(), "{invalid}");
        }
        for invalid in ["", "much", "-1"] {
            assert!(invalid.parse::<Size>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn displayed_units_parse_again() {
        assert_eq!(Time(Duration::from_secs(90)).to_string(), "1m 30s");
        assert_eq!(Size(8 << 20).to_string(), "8.0 MiB");
        assert_eq!(Size(8 << 20).to_string().parse(), Ok(Size(8 << 20)));
    }
}
