//! What the operator writes, turned into typed and checked settings.

mod schema;
mod settings;

pub(crate) use settings::kind;
pub use settings::{SettingError, parse_pairs, resolve};
