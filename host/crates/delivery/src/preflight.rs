//! What stands against a sink on this machine as it is now, before anything is delivered to it.

use super::{ExecSettings, Kind, SinkSettings, TargetSettings};
use crate::process::CommandLine;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What would keep a sink from working if nothing changed: the key of its settings, and why.
pub type Doubt = (&'static str, String);

impl SinkSettings {
    /// What would keep it from working here, with the values of these sources, if nothing changed. It may have been written for another
    /// machine, or what is missing may still come. Files and users are looked up, nothing is changed.
    #[must_use]
    pub fn doubts(&self, sources: &[&str]) -> Vec<Doubt> {
        match &self.kind {
            Kind::Stdout(_) | Kind::Signal(_) => Vec::new(),
            Kind::File(settings) => settings.doubts(),
            Kind::Exec(ExecSettings { command, directory, env, .. }) => {
                command.doubts(directory.as_deref(), env)
            }
            Kind::Webhook(settings) => settings.doubts(),
            Kind::Template(settings) => settings.doubts(sources),
        }
    }

    /// The file that it writes, if it writes one.
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
    pub(crate) fn doubts(&self) -> Vec<Doubt> {
        let path = self.path.display();
        let mut doubts = Vec::new();
        if self.path.is_dir() {
            doubts.push(("path", format!("`{path}` is a directory, and not a file")));
        } else if let Some(directory) = self.path.parent().filter(|parent| parent != &Path::new(""))
            && !directory.is_dir()
            && !self.create_directories
        {
            let directory = directory.display();
            let hint = "make it, or set `create-directories = true`";
            doubts.push(("path", format!("there is no directory `{directory}`; {hint}")));
        }
        let user = self.owner.as_deref().map(crate::atomic_write::user);
        let group = self.group.as_deref().map(crate::atomic_write::group);
        let unknown = |key, looked_up: Option<Result<u32, std::io::Error>>| {
            Some((key, looked_up?.err()?.to_string()))
        };
        doubts.extend([unknown("owner", user), unknown("group", group)].into_iter().flatten());
        doubts
    }
}

impl CommandLine {
    /// What would keep it from being started in this directory, with these variables.
    #[must_use]
    pub fn doubts(&self, directory: Option<&Path>, env: &BTreeMap<String, String>) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
            let message = format!("there is no directory `{}`", directory.display());
            doubts.push(("directory", message));
        }
        let Self::Program(words) = self else { return doubts };
        let program = words.first().map_or("", String::as_str);
        let paths = env.get("PATH").map(Into::into).or_else(|| std::env::var_os("PATH"));
        let here = directory.map_or_else(|| PathBuf::from("."), Into::into);
        if which::which_in(program, paths, here).is_err() {
            let what = match fs::metadata(program) {
                Ok(_) => "is no program that can be run",
                Err(_) if program.contains('/') => "is not there",
                Err(_) => "is in no directory of the PATH",
            };
            doubts.push(("command", format!("`{program}` {what}")));
        }
        doubts
    }
}
