//! Errors of loading a plugin.

use crate::{bundled::bundled, limits::Limits, world_check::WorldError};
use reloader_component_metadata::ComponentError;
use std::io;

/// Error of loading a plugin.
#[derive(Debug, thiserror::Error)]
#[error("plugin `{name}`: {reason}")]
pub struct LoadError {
    /// Requested name or path of the plugin.
    pub name: String,
    /// Reason why the plugin cannot be loaded.
    pub reason: LoadReason,
}

/// Reason why a plugin cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadReason {
    /// There is no bundled plugin and no file of this name.
    #[error(
        "not found: no file and no bundled plugin of this name (bundled: {})",
        bundled().map(|plugin| plugin.name).collect::<Vec<_>>().join(", ")
    )]
    NotFound,
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Io(io::Error),
    /// The component is too large.
    #[error("the component has {size} bytes; {limit}")]
    TooLarge {
        /// Size of the component, in bytes.
        size: u64,
        /// Name and value of the limit.
        limit: String,
    },
    /// The component contains too many instances of modules and components.
    #[error("the component contains {}; {limit}", describe_instances(*.instances))]
    TooManyInstances {
        /// Number of instances of modules and components.
        instances: u64,
        /// Name and value of the limit.
        limit: String,
    },
    /// The static cost of an instance is too high.
    #[error(
        "the globals and functions of an instance take up to {} MiB in addition to its linear memory; {limit}",
        bytes.div_ceil(1 << 20)
    )]
    StaticCostTooHigh {
        /// Host memory of an instance without its linear memory, in bytes.
        bytes: u64,
        /// Name and value of the limit.
        limit: String,
    },
    /// The bytes are not a WebAssembly component.
    #[error("{0}")]
    Artifact(#[from] ComponentError),
    /// The component is not a plugin for this host.
    #[error("{0}")]
    World(#[from] WorldError),
    /// The component cannot be compiled or linked.
    #[error("{0}")]
    Unusable(String),
    /// The system lacks a resource, such as a thread. The same component may be loaded later.
    #[error("{0}")]
    NoResources(String),
}

impl LoadError {
    /// Returns whether the same plugin may be loaded later: the system lacks a resource, or a file system has not
    /// answered.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match &self.reason {
            LoadReason::NoResources(_) => true,
            LoadReason::Io(error) => {
                matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
            }
            _ => false,
        }
    }
}

impl LoadReason {
    /// Returns the reason for a component of this size, which exceeds the size limit.
    pub(crate) fn too_large(size: u64, limits: &Limits) -> Self {
        Self::TooLarge { size, limit: limits.cite("component-size") }
    }
}

/// Returns the number of instances as text. Millions of instances are not counted exactly.
fn describe_instances(instances: u64) -> String {
    match instances {
        0..1_000_000 => format!("{instances} instances"),
        _ => "a million instances or more".into(),
    }
}
