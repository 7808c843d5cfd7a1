//! World check: compares the imports and exports of a component with the plugin interface of this host.

use wasmtime::{Engine, component::Component};

/// Package of the plugin interface.
const PACKAGE: &str = "reloader:plugin";
/// Supported version of the plugin interface. All its patch versions are compatible.
const SUPPORTED_VERSION: &str = "0.1";
/// Interfaces of the package that the host implements.
const INTERFACES: [&str; 4] = ["types", "log", "files", "endpoint"];
/// WASI packages that the host implements. Through `filesystem` and `sockets`, a guest can access no file and no
/// network.
const WASI_PACKAGES: [&str; 7] = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];

/// World of a plugin: its kind, and the interfaces that it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// True if the plugin can watch for changes.
    pub can_watch: bool,
    /// True if the plugin is a validator, not a source.
    pub validates: bool,
    /// Version of the plugin interface for which it was built.
    pub interface: String,
    /// Imported interfaces, as `package/interface@version`.
    pub imports: Vec<String>,
}

impl World {
    /// Returns the name of the world in the plugin interface.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self { validates: true, .. } => "validator",
            Self { can_watch: true, .. } => "realtime-source",
            Self { .. } => "source",
        }
    }
}

/// Error of a component that is not a plugin for this host.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The component exports no interface of a plugin.
    #[error(
        "not a plugin: the component exports neither `{PACKAGE}/reload@{SUPPORTED_VERSION}` nor \
         `{PACKAGE}/validate@{SUPPORTED_VERSION}`, but {exports}"
    )]
    OtherWorld {
        /// Names of the first exports of the component, as text.
        exports: String,
    },
    /// The plugin was built for an unsupported version of the plugin interface.
    #[error(
        "the plugin was built for version {theirs} of the plugin interface; this host supports \
         {SUPPORTED_VERSION}"
    )]
    OtherVersion {
        /// Version of the plugin interface for which the plugin was built.
        theirs: String,
    },
    /// The plugin is a validator and imports files or networking.
    #[error(
        "the plugin is a validator and imports `{import}`; validators have no access to files or networks"
    )]
    Reaches {
        /// Name of the import.
        import: String,
    },
    /// The plugin imports an interface that the host does not implement.
    #[error(
        "the plugin imports `{import}`, which this host does not implement (plugin interface \
         {SUPPORTED_VERSION}, WASI 0.2)"
    )]
    Missing {
        /// Name of the import.
        import: String,
    },
}

/// Returns the world that a component implements. Fails if this host cannot run the component.
pub(crate) fn check(component: &Component, engine: &Engine) -> Result<World, WorldError> {
    let types = component.component_type();
    let exports: Vec<String> = types.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let imports: Vec<String> = types.imports(engine).map(|(name, _)| name.to_owned()).collect();
    world_of(exports, imports)
}

fn world_of(exports: Vec<String>, imports: Vec<String>) -> Result<World, WorldError> {
    let version_of = |interface: &str| {
        let prefix = format!("{PACKAGE}/{interface}@");
        exports.iter().find_map(|export| export.strip_prefix(&prefix)).map(str::to_owned)
    };
    let (reload, validate) = (version_of("reload"), version_of("validate"));
    let validates = reload.is_none() && validate.is_some();
    let Some(interface) = reload.or(validate) else {
        let exports = match exports.as_slice() {
            [] => "nothing".into(),
            some => some.iter().take(3).map(|e| format!("`{e}`")).collect::<Vec<_>>().join(", "),
        };
        return Err(WorldError::OtherWorld { exports });
    };
    if !is_compatible(&interface) {
        return Err(WorldError::OtherVersion { theirs: interface });
    }
    let can_watch = version_of("watch").is_some_and(|version| is_compatible(&version));
    if let Some(import) = imports.iter().find(|import| !is_implemented(import)) {
        return Err(WorldError::Missing { import: import.clone() });
    }
    if let Some(import) = imports.iter().find(|import| validates && is_external_access(import)) {
        return Err(WorldError::Reaches { import: import.clone() });
    }
    Ok(World { can_watch: can_watch && !validates, validates, interface, imports })
}

fn is_compatible(version: &str) -> bool {
    version.strip_prefix(SUPPORTED_VERSION).is_some_and(|rest| rest.starts_with('.'))
}

fn is_implemented(import: &str) -> bool {
    let Some((path, version)) = import.split_once('@') else { return false };
    let Some((package, interface)) = path.split_once('/') else { return false };
    match package.split_once(':') {
        Some(("wasi", part)) => WASI_PACKAGES.contains(&part) && version.starts_with("0.2."),
        _ => package == PACKAGE && INTERFACES.contains(&interface) && is_compatible(version),
    }
}

/// Returns whether an import gives access to files or networks. WASI files and sockets do not count: the host gives no
/// access through them, and every Rust program imports them.
fn is_external_access(import: &str) -> bool {
    let own = import.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/'));
    own.is_some_and(|name| name.starts_with("files@") || name.starts_with("endpoint@"))
        || import.starts_with("wasi:http/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_names(exports: &[&str], imports: &[&str]) -> Result<World, String> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        world_of(owned(exports), owned(imports)).map_err(|error| error.to_string())
    }

    #[test]
    fn world_follows_from_exports() {
        let source = check_names(&["reloader:plugin/reload@0.1.0"], &[]).expect("a source");
        assert_eq!(source.name(), "source");
        let both = ["reloader:plugin/reload@0.1.3", "reloader:plugin/watch@0.1.3"];
        let realtime = check_names(&both, &["wasi:io/poll@0.2.9", "reloader:plugin/log@0.1.0"]);
        assert_eq!(realtime.expect("a realtime source").name(), "realtime-source");
        let validator =
            check_names(&["reloader:plugin/validate@0.1.0"], &["reloader:plugin/log@0.1.0"]);
        assert_eq!(validator.expect("a validator").name(), "validator");
    }

    #[test]
    fn unusable_component_error_names_interface() {
        let reload = "reloader:plugin/reload@0.1.0";
        let validate = "reloader:plugin/validate@0.1.0";
        let cases: [(&[&str], &[&str], &str); 8] = [
            (&[], &[], "but nothing"),
            (&["wasi:cli/run@0.2.0"], &[], "but `wasi:cli/run@0.2.0`"),
            (&["reloader:plugin/reload@0.2.0"], &[], "built for version 0.2.0"),
            (&[reload], &["reloader:plugin/sockets@0.1.0"], "`reloader:plugin/sockets@0.1.0`"),
            (&["reloader:plugin/validate@0.3.0"], &[], "built for version 0.3.0"),
            (
                &[validate],
                &["reloader:plugin/files@0.1.0"],
                "imports `reloader:plugin/files@0.1.0`;",
            ),
            (&[validate], &["wasi:http/types@0.2.3"], "validators have no access to files"),
            (&[reload], &["wasi:nn/graph@0.2.0"], "imports `wasi:nn/graph@0.2.0`"),
        ];
        for (exports, imports, expected) in cases {
            let error = check_names(exports, imports).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
