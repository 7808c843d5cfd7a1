//! Hook with which a caller rejects a new configuration.

use crate::config::Config;

/// Checks a new configuration against what cannot change while the process runs, such as bound
/// sockets.
pub trait ReloadCheck: Send + Sync {
    /// Returns the settings of `config` that cannot take effect: the path of each in the configuration
    /// file, table by table, and the reason. A configuration with any such setting is rejected, and
    /// the running configuration stays in effect.
    ///
    /// Called on a thread where blocking is allowed.
    fn check(&self, config: &Config) -> Vec<(Vec<String>, String)>;
}
