//! Name of the program, for hints that show a command, such as "undo with `reloader-host resume app`".

use std::sync::OnceLock;

static NAME: OnceLock<String> = OnceLock::new();

/// Sets the name under which the program was called. Only the first call has an effect.
pub fn set(name: impl Into<String>) {
    let _ = NAME.set(name.into());
}

/// Returns the name. Default: `host`, the program of this project.
pub fn get() -> &'static str {
    NAME.get().map_or("host", String::as_str)
}
