//! Preflight checks: detect problems of a sink or command on this host before it is used.

use super::{ExecSettings, Kind, SinkSettings, TargetSettings};
use crate::process::CommandLine;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A problem found by a preflight check: the key of the setting, and the reason.
///
/// It is a warning and not an error. The configuration may be written for another host, or the
/// missing file or user may be created later.
pub type PreflightWarning = (&'static str, String);

impl SinkSettings {
    /// Returns the reasons why the sink would fail on this host now, with the values of `sources`.
    ///
    /// The check looks up files, users and programs, and changes nothing.
    #[must_use]
    pub fn preflight(&self, sources: &[&str]) -> Vec<PreflightWarning> {
        match &self.kind {
            Kind::Stdout(_) | Kind::Signal(_) => Vec::new(),
            Kind::File(settings) => settings.preflight(),
            Kind::Exec(ExecSettings { command, directory, env, .. }) => {
                command.preflight(directory.as_deref(), env)
            }
            Kind::Webhook(settings) => settings.preflight(),
            Kind::Template(settings) => settings.preflight(sources),
        }
    }

    /// Returns the path of the file that the sink writes, if it writes one.
    #[must_use]
    pub fn writes_to(&self) -> Option<&Path> {
        match &self.kind {
            Kind::File(settings) => Some(&settings.path),
            Kind::Template(settings) => Some(&settings.path),
            Kind::Stdout(_) | Kind::Exec(_) | Kind::Signal(_) | Kind::Webhook(_) => None,
        }
    }
}

impl TargetSettings {
    pub(crate) fn preflight(&self) -> Vec<PreflightWarning> {
        let path = self.path.display();
        let mut warnings = Vec::new();
        if self.path.is_dir() {
            warnings.push(("path", format!("`{path}` is a directory; expected a file")));
        } else if let Some(directory) = self.path.parent().filter(|parent| parent != &Path::new(""))
            && !directory.is_dir()
            && !self.create_directories
        {
            let directory = directory.display();
            let hint = "create it or set `create-directories = true`";
            warnings.push(("path", format!("directory `{directory}` does not exist; {hint}")));
        }
        let user = self.owner.as_deref().map(crate::atomic_write::user);
        let group = self.group.as_deref().map(crate::atomic_write::group);
        let unknown = |key, looked_up: Option<Result<u32, std::io::Error>>| {
            Some((key, looked_up?.err()?.to_string()))
        };
        warnings.extend([unknown("owner", user), unknown("group", group)].into_iter().flatten());
        warnings
    }
}

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
