//! Veto with which a caller rejects a new configuration during a reload.

use crate::config::{Config, InvalidSetting};

/// Check that rejects new configurations that are unsafe or unusable while the process runs, such as one
/// without tokens although the API listens on an address that other machines can reach.
pub trait ReloadVeto: Send + Sync {
    /// Returns the settings because of which `config` is rejected. If there is any, the running configuration
    /// stays in effect.
    ///
    /// Called on a thread where blocking is allowed.
    fn invalid_settings(&self, config: &Config) -> Vec<InvalidSetting>;
}
