//! Veto with which a caller rejects a new configuration during a reload.

use crate::config::{Config, InvalidSetting};

/// Rejects new configurations whose settings cannot take effect while the process runs, such as
/// another address of a bound socket.
pub trait ReloadVeto: Send + Sync {
    /// Returns the settings of `config` that cannot take effect. A configuration with any such setting
    /// is rejected, and the running configuration stays in effect.
    ///
    /// Called on a thread where blocking is allowed.
    fn invalid_settings(&self, config: &Config) -> Vec<InvalidSetting>;
}
