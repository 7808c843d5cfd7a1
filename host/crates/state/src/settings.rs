//! What can be set of the state.

use reloader_util::units::{Size, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// What is remembered across restarts, where, and how much of it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// The directory for what is remembered; it is made if it is not there, for its owner alone. Without
    /// one nothing survives a restart.
    pub path: Option<PathBuf>,
    /// How many revisions of each source are kept, with the present one. Default: 20.
    pub history: u32,
    /// How much of each source's values is kept in all; the present one is in any case. Default: `16MiB`.
    pub history_size: Size,
    /// Whether values are stored. If not, only their revisions and digests are, and after a restart there
    /// is no value before the source answers. A source may say so for itself. Default: true.
    pub store_values: bool,
    /// A source that has not been configured for so long is forgotten. Default: `30days`.
    pub keep_removed: Time,
    /// Of more sources than these that are not configured any more, the oldest are forgotten.
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
    fn each_setting_has_a_default_and_a_name_that_is_checked() {
        let settings: Settings =
            serde_json::from_str(r#"{ "history-size": "1MiB", "store-values": false }"#)
                .expect("they are right");
        let expected =
            Settings { history_size: Size(1 << 20), store_values: false, ..Settings::default() };
        assert_eq!(settings, expected);
        assert!(serde_json::from_str::<Settings>(r#"{ "histroy": 1 }"#).is_err());
        let days: Time = "30days".parse().expect("as it is written");
        assert_eq!(settings.keep_removed, days);
    }
}
