//! Settings of the state store.

use reloader_util::units::{Size, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// Settings of the state store: its directory, and how much it keeps.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// State directory. The host creates it with mode 0700 if it does not exist. Without a directory, no
    /// state survives a restart.
    pub path: Option<PathBuf>,
    /// Number of stored revisions of each source, including the current one. Default: 20.
    pub history: u32,
    /// Total size of the stored values of each source. The current value is always stored. Default:
    /// `16MiB`.
    pub history_size: Size,
    /// Stores values. If false, only revisions and digests are stored, and a restarted host has
    /// no value until the source is read. A single source can turn this off for itself. Default: true.
    pub store_values: bool,
    /// Time after which the state of a source that is no longer configured is deleted. Default: `30days`.
    pub keep_removed: Time,
    /// Maximum number of stored sources that are no longer configured. The oldest ones are deleted first.
    /// Default: 1000.
    pub max_removed: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: None,
            history: 20,
            history_size: Size(16 << 20),
            store_values: true,
            keep_removed: Time(Duration::from_secs(30 * 24 * 60 * 60)),
            max_removed: 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_settings_get_defaults_unknown_fail() {
        let settings: Settings =
            serde_json::from_str(r#"{ "history-size": "1MiB", "store-values": false }"#)
                .expect("the settings are valid");
        let expected =
            Settings { history_size: Size(1 << 20), store_values: false, ..Settings::default() };
        assert_eq!(settings, expected);
        assert!(serde_json::from_str::<Settings>(r#"{ "histroy": 1 }"#).is_err());
        let days: Time = "30days".parse().expect("the duration is valid");
        assert_eq!(settings.keep_removed, days);
    }
}
