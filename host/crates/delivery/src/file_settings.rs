//! Where a file is and how, as an operator writes it.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, path::PathBuf};

/// Where a file is, and how.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TargetSettings {
    /// The file. If it is a symbolic link, what it leads to is replaced, and the link stays.
    pub path: PathBuf,
    /// Its permissions in octal, e.g. `"0644"`. Default: those of the file that is there, else `"0600"`:
    /// a value may be a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Whose it is, a name or a number. Default: that of the file that is there, if that is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its group, a name or a number. Default: that of the file that is there, if that is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether the file before is kept: `true` as `<path>.bak`, or a text to append to the path.
    /// Default: `false`.
    #[serde(default, skip_serializing_if = "Backup::is_off")]
    pub backup: Backup,
    /// Writes into the file that is there instead of replacing it, for a file that is mounted by itself.
    /// It is not atomic: a reader may see half of it. Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_place: bool,
    /// Makes the directories that are missing on the way. Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create_directories: bool,
    /// Waits for the disk, so that even after a power failure it is this file or the one before. With
    /// `false` it is seen some milliseconds sooner, and still as a whole. Default: `true`.
    #[serde(default = "durable", skip_serializing_if = "Clone::clone")]
    pub durable: bool,
}

pub(crate) fn durable() -> bool {
    true
}

/// Permissions, written in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

/// Whether the file before is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Backup {
    /// It is not.
    #[default]
    Off,
    /// It is, with this appended to its path.
    Suffix(String),
}

impl TargetSettings {
    /// This file, with all else as it is by default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: None,
            owner: None,
            group: None,
            backup: Backup::Off,
            in_place: false,
            create_directories: false,
            durable: durable(),
        }
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = reloader_util::units::text(deserializer, "a text in octal like \"0640\"")?;
        let octal = u32::from_str_radix(text.strip_prefix("0o").unwrap_or(&text), 8);
        match octal {
            Ok(mode) if mode <= 0o7777 && text.len() >= 3 => Ok(Self(mode)),
            _ => Err(de::Error::custom("expected permissions in octal, e.g. \"0644\"")),
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(0o)?[0-7]{3,4}$" })
    }
}

impl Backup {
    pub(crate) fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

impl<'de> Deserialize<'de> for Backup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Backup;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false`, or a text to append to the path")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Backup, E> {
                Ok(if on { Backup::Suffix(".bak".into()) } else { Backup::Off })
            }

            fn visit_str<E: de::Error>(self, suffix: &str) -> Result<Backup, E> {
                if suffix.is_empty() || suffix.contains('/') {
                    return Err(E::custom("expected a text to append to the path, without `/`"));
                }
                Ok(Backup::Suffix(suffix.into()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Backup {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::Suffix(suffix) => serializer.serialize_str(suffix),
        }
    }
}

impl JsonSchema for Backup {
    fn schema_name() -> Cow<'static, str> {
        "Backup".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [
            { "type": "boolean" },
            { "type": "string", "minLength": 1, "pattern": "^[^/]+$" },
        ] })
    }
}
