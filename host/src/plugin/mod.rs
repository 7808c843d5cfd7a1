//! Plugins: from the bytes of a component to an [`Origin`](crate::origin::Origin).
//!
//! `artifact` looks at the bytes without running them, [`Runtime`] compiles (or takes what was
//! compiled before, from the `cache`) and links, [`Plugin`] is the result. With checked
//! settings it becomes an origin, whose instances call the guest; what the guest calls in turn
//! is in `view`. Generated bindings do not leave this module; `convert` is the only way out.

mod alarm;
mod bindings;
mod builder;
mod bundled;
mod cache;
mod compile;
mod convert;
mod exports;
mod instance;
mod intake;
mod json_schema;
mod lanes;
mod limits;
mod meter;
mod origin;
mod pace;
mod refusals;
mod reloader;
mod runtime;
mod surroundings;
mod ticker;
mod validator;
mod view;
mod watch;
mod world;

pub use builder::SourceBuilder;
pub use bundled::{Bundled, bundled};
pub use cache::Cache;
pub use compile::{Compiler, serve};
pub use json_schema::{JsonSchemaSettings, JsonSchemaValidator};
pub use limits::{Count, LimitError, Limits};
pub use origin::ConfigureError;
pub use reloader::PluginReloader;
pub use reloader_component_metadata::{ArtifactError, Description};
pub use runtime::{LoadError, LoadReason, Plugin, Runtime, is_path};
pub use validator::ValidatorBuilder;
pub use world::{World, WorldError};
