//! Configuration file `reloader.toml`: parsing, checks, errors with positions, and its JSON Schema.

mod api_tokens;
mod conflicts;
mod deserialize_with_recovery;
mod diagnostics;
mod listen_address;
mod listen_table;
mod load;
mod lower;
mod lowered_config;
mod raw;
mod schema;
mod spanned_toml;
mod unknown_name;

pub use api_tokens::{Scope, Token, TokenDigest};
pub use diagnostics::{ConfigError, InvalidSetting};
pub use listen_address::ListenAddress;
pub use listen_table::{ListenTable, ListenTls};
pub(crate) use lowered_config::sink_name;
pub use lowered_config::{Config, GroupConfig, SourceConfig};
pub use raw::{LogFormat, LogLevel, LogTable, StateTable};
pub use schema::schema;
