//! What a component needs and offers, held against what this host understands.

use wasmtime::{Engine, component::Component};

/// The interface's package and the versions of it that this host speaks.
const PACKAGE: &str = "reloader:plugin";
const TRACK: &str = "0.1";
/// The host's own interfaces in that package.
const OWN: [&str; 4] = ["types", "log", "files", "endpoint"];
/// The parts of WASI that are there (and mostly empty).
const WASI: [&str; 7] = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];

/// What a plugin can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// Whether it can tell of changes by itself.
    pub can_watch: bool,
    /// Whether it is no source, but says whether the values of others may be let through.
    pub validates: bool,
    /// The version of the interface that it was built for.
    pub interface: String,
    /// What it imports, as `package/interface@version`.
    pub imports: Vec<String>,
}

impl World {
    /// The name of the world in the interface.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self { validates: true, .. } => "validator",
            Self { can_watch: true, .. } => "realtime-source",
            Self { .. } => "source",
        }
    }
}

/// A component, but not one that this host can use.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A component of another kind.
    #[error(
        "it is a component of another world: it exports neither `{PACKAGE}/reload@{TRACK}` nor \
         `{PACKAGE}/validate@{TRACK}`, but {exports}"
    )]
    OtherWorld {
        /// What it exports.
        exports: String,
    },
    /// A plugin of another version of the interface.
    #[error("it was built for version {theirs} of the interface; this host speaks {TRACK}")]
    OtherVersion {
        /// The version it was built for.
        theirs: String,
    },
    /// A validator that wants to reach something.
    #[error("it is a validator, and needs `{import}`; a validator decides by the value alone")]
    Reaches {
        /// The import.
        import: String,
    },
    /// It needs what is not offered.
    #[error("it needs `{import}`, which this host (interface {TRACK}, WASI 0.2) does not offer")]
    Missing {
        /// The import.
        import: String,
    },
}

/// Looks at a component's imports and exports.
pub(crate) fn check(component: &Component, engine: &Engine) -> Result<World, WorldError> {
    let types = component.component_type();
    let exports: Vec<String> = types.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let imports: Vec<String> = types.imports(engine).map(|(name, _)| name.to_owned()).collect();
    world(exports, imports)
}

fn world(exports: Vec<String>, imports: Vec<String>) -> Result<World, WorldError> {
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
    if !is_on_track(&interface) {
        return Err(WorldError::OtherVersion { theirs: interface });
    }
    let can_watch = version_of("watch").is_some_and(|version| is_on_track(&version));
    if let Some(import) = imports.iter().find(|import| !is_offered(import)) {
        return Err(WorldError::Missing { import: import.clone() });
    }
    if let Some(import) = imports.iter().find(|import| validates && reaches(import)) {
        return Err(WorldError::Reaches { import: import.clone() });
    }
    Ok(World { can_watch: can_watch && !validates, validates, interface, imports })
}

fn is_on_track(version: &str) -> bool {
    version.strip_prefix(TRACK).is_some_and(|rest| rest.starts_with('.'))
}

fn is_offered(import: &str) -> bool {
    let Some((path, version)) = import.split_once('@') else { return false };
    let Some((package, interface)) = path.split_once('/') else { return false };
    match package.split_once(':') {
        Some(("wasi", part)) => WASI.contains(&part) && version.starts_with("0.2."),
        _ => package == PACKAGE && OWN.contains(&interface) && is_on_track(version),
    }
}

/// Whether something outside is reached through this. What else of WASI leads outside is empty, and
/// imported by every program in Rust.
fn reaches(import: &str) -> bool {
    let own = import.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/'));
    own.is_some_and(|name| name.starts_with("files@") || name.starts_with("endpoint@"))
        || import.starts_with("wasi:http/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(exports: &[&str], imports: &[&str]) -> Result<World, String> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        world(owned(exports), owned(imports)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_component_exports_is_what_it_can_do() {
        let source = of(&["reloader:plugin/reload@0.1.0"], &[]).expect("a source");
        assert_eq!(source.name(), "source");
        let both = ["reloader:plugin/reload@0.1.3", "reloader:plugin/watch@0.1.3"];
        let realtime = of(&both, &["wasi:io/poll@0.2.9", "reloader:plugin/log@0.1.0"]);
        assert_eq!(realtime.expect("a realtime source").name(), "realtime-source");
        let validator = of(&["reloader:plugin/validate@0.1.0"], &["reloader:plugin/log@0.1.0"]);
        assert_eq!(validator.expect("a validator").name(), "validator");
    }

    #[test]
    fn what_cannot_be_used_is_named_with_what_is_missing() {
        let reload = "reloader:plugin/reload@0.1.0";
        let validate = "reloader:plugin/validate@0.1.0";
        let cases: [(&[&str], &[&str], &str); 8] = [
            (&[], &[], "but nothing"),
            (&["wasi:cli/run@0.2.0"], &[], "but `wasi:cli/run@0.2.0`"),
            (&["reloader:plugin/reload@0.2.0"], &[], "built for version 0.2.0"),
            (&[reload], &["reloader:plugin/sockets@0.1.0"], "`reloader:plugin/sockets@0.1.0`"),
            (&["reloader:plugin/validate@0.3.0"], &[], "built for version 0.3.0"),
            (&[validate], &["reloader:plugin/files@0.1.0"], "needs `reloader:plugin/files@0.1.0`;"),
            (&[validate], &["wasi:http/types@0.2.3"], "a validator decides by the value alone"),
            (&[reload], &["wasi:nn/graph@0.2.0"], "it needs `wasi:nn/graph@0.2.0`"),
        ];
        for (exports, imports, expected) in cases {
            let error = of(exports, imports).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
