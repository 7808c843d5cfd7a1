//! What the operator writes, turned into typed and checked settings.

mod secrets;

pub use reloader_policy::plugin_settings::{SettingError, parse_pairs, resolve};
pub use secrets::{Reference, Secrets};
