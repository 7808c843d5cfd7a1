//! Settings of a written file: path, permissions, ownership, backup, durability and repair.

use reloader_util::units::{TIME, Time, text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, path::PathBuf, time::Duration};

/// Defines a struct with the settings of a sink that writes a file: the given fields with their defaults, followed by
/// the fields that describe the file. Also defines `at_path`, which returns the defaults, and `target`, which returns the
/// fields that describe the file.
///
/// The macro replaces the serde attribute `flatten`, which would lose the place of an error in the configuration
/// file.
macro_rules! file_sink_settings {
    ($(#[$attribute:meta])* pub struct $name:ident {
        $($(#[$field_attribute:meta])* pub $field:ident: $type:ty = $default:expr,)*
    }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub struct $name {
            $($(#[$field_attribute])* pub $field: $type,)*
            /// Path of the file. If it is a symbolic link, the target of the link is replaced, and the link
            /// stays.
            pub path: PathBuf,
            /// Permissions in octal, e.g. `"0644"`. Default: the permissions of the existing file, or `"0600"`
            /// for a new file, because a value may be a secret.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub mode: Option<$crate::sinks::file_settings::Mode>,
            /// Owner, as a name or a number. Default: the owner of the existing file, if the host may set it.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub owner: Option<String>,
            /// Group, as a name or a number. Default: the group of the existing file, if the host may set it.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub group: Option<String>,
            /// Backup of the previous file: `true` for `<path>.bak`, or a string to append to the path.
            /// Default: `false`.
            #[serde(default, skip_serializing_if = "super::file_settings::Backup::is_off")]
            pub backup: $crate::sinks::file_settings::Backup,
            /// Overwrites the existing file instead of replacing it, for a file that is a mount point, e.g. a
            /// bind mount. The write is not atomic: a reader may see a partial file. Default: `false`.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub in_place: bool,
            /// Creates missing parent directories. Default: `false`.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub create_directories: bool,
            /// Syncs the file to disk before it replaces the previous one, so that the file is complete after
            /// a power failure. `false` saves some milliseconds; the replacement is still atomic for readers.
            /// Default: `true`.
            #[serde(default = "super::file_settings::durable", skip_serializing_if = "Clone::clone")]
            pub durable: bool,
            /// Interval of the check whether another program has changed or removed the file, from `1s` to `24h`;
            /// `off` or `0s` for no check. After a change or removal, the host writes the file again, runs the
            /// sinks `exec` and `signal` of the same source or group again, and notifies `[command]`.
            /// Default: `60s`.
            #[serde(default, skip_serializing_if = "super::file_settings::RepairInterval::is_default")]
            pub repair_interval: $crate::sinks::file_settings::RepairInterval,
            /// Command that accepts new content with exit status 0 before the file is replaced: a list is a program and
            /// its arguments, run without a shell; a string is run by `/bin/sh -c`. `{file}` in a list, and the variable
            /// `RELOADER_FILE`, are the path of the new content, beside the file. Otherwise the previous file stays, the
            /// sinks `exec` and `signal` do not run, and the check is retried like a failed delivery. `timeout` of the
            /// sink is its timeout. Default: no check.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub check: Option<$crate::process::command_line::CommandLine>,
        }

        impl $name {
            /// Returns the default settings for the file at `path`.
            pub(crate) fn at_path(path: PathBuf) -> Self {
                Self {
                    $($field: $default,)*
                    path,
                    mode: None,
                    owner: None,
                    group: None,
                    backup: $crate::sinks::file_settings::Backup::Off,
                    in_place: false,
                    create_directories: false,
                    durable: super::file_settings::durable(),
                    repair_interval: $crate::sinks::file_settings::RepairInterval::default(),
                    check: None,
                }
            }

            /// Returns the settings of the written file.
            #[allow(dead_code, reason = "`TargetSettings` itself needs no conversion")]
            pub(crate) fn target(&self) -> $crate::sinks::file_settings::TargetSettings {
                $crate::sinks::file_settings::TargetSettings {
                    path: self.path.clone(),
                    mode: self.mode,
                    owner: self.owner.clone(),
                    group: self.group.clone(),
                    backup: self.backup.clone(),
                    in_place: self.in_place,
                    create_directories: self.create_directories,
                    durable: self.durable,
                    repair_interval: self.repair_interval,
                    check: self.check.clone(),
                }
            }
        }
    };
}
pub(super) use file_sink_settings;

file_sink_settings! {
    /// Settings of a file that the host writes.
    pub struct TargetSettings {}
}

pub(super) fn durable() -> bool {
    true
}

/// File permissions, written as an octal string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

/// Setting whether and where a sink keeps the file that it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Backup {
    /// No backup.
    #[default]
    Off,
    /// The previous file is kept at the path with this suffix.
    Suffix(String),
}

/// Interval at which the host checks whether another program has changed a written file. `None` disables the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairInterval(pub Option<Duration>);

/// Default of [`RepairInterval`].
const DEFAULT_REPAIR_INTERVAL: Duration = Duration::from_secs(60);
/// Minimum of [`RepairInterval`].
const MIN_REPAIR_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum of [`RepairInterval`].
const MAX_REPAIR_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Text in the configuration that disables the check of [`RepairInterval`].
const OFF: &str = "off";

impl TargetSettings {
    /// Returns the default settings for the file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::at_path(path.into())
    }
}

impl Default for RepairInterval {
    fn default() -> Self {
        Self(Some(DEFAULT_REPAIR_INTERVAL))
    }
}

impl RepairInterval {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl<'de> Deserialize<'de> for RepairInterval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer, "a duration like \"60s\", or \"off\"")?;
        if text == OFF || humantime::parse_duration(&text).is_ok_and(|interval| interval.is_zero())
        {
            return Ok(Self(None));
        }
        match text.parse() {
            Ok(Time(interval))
                if (MIN_REPAIR_INTERVAL..=MAX_REPAIR_INTERVAL).contains(&interval) =>
            {
                Ok(Self(Some(interval)))
            }
            _ => Err(de::Error::custom("expected a duration from `1s` to `24h`, or `off`")),
        }
    }
}

impl Serialize for RepairInterval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(interval) => Time(interval).serialize(serializer),
            None => serializer.serialize_str(OFF),
        }
    }
}

impl JsonSchema for RepairInterval {
    fn schema_name() -> Cow<'static, str> {
        "RepairInterval".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let description = "A duration from `1s` to `24h`, or `off`";
        json_schema!({ "type": "string", "format": TIME, "description": description })
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer, "an octal string like \"0640\"")?;
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
    pub(super) fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

impl<'de> Deserialize<'de> for Backup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Backup;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false`, or a string to append to the path")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Backup, E> {
                Ok(if on { Backup::Suffix(".bak".into()) } else { Backup::Off })
            }

            fn visit_str<E: de::Error>(self, suffix: &str) -> Result<Backup, E> {
                if suffix.is_empty() || suffix.contains('/') {
                    return Err(E::custom("expected a string to append to the path, without `/`"));
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
