//! What the operator writes, turned into typed and checked settings.

mod schema;
mod secrets;
mod settings;

pub use secrets::{Reference, Secrets};
#[cfg(feature = "cli")]
pub(crate) use settings::kind;
pub use settings::{SettingError, parse_pairs, resolve};
