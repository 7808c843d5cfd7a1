//! Preflight check of a command: its program and its working directory.

use super::command_line::CommandLine;
use crate::preflight_warning::PreflightWarning;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

impl CommandLine {
    /// Returns the reasons why the command cannot be started now, in `directory` and with the
    /// variables of `env`. Shell commands are not checked.
    #[must_use]
    pub fn preflight(
        &self,
        directory: Option<&Path>,
        env: &BTreeMap<String, String>,
    ) -> Vec<PreflightWarning> {
        let mut warnings = Vec::new();
        if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
            let message = format!("directory `{}` does not exist", directory.display());
            warnings.push(("directory", message));
        }
        let Self::Program(words) = self else { return warnings };
        let program = words.first().map_or("", String::as_str);
        let paths = env.get("PATH").map(Into::into).or_else(|| std::env::var_os("PATH"));
        let here = directory.map_or_else(|| PathBuf::from("."), Into::into);
        if which::which_in(program, paths, here).is_err() {
            let reason = match fs::metadata(program) {
                Ok(_) => "not an executable file",
                Err(_) if program.contains('/') => "file not found",
                Err(_) => "command not found in PATH",
            };
            warnings.push(("command", format!("`{program}`: {reason}")));
        }
        warnings
    }
}
