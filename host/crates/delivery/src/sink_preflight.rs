//! Preflight checks of a sink: files, users, programs, templates and secrets on this host.

use crate::{
    preflight_warning::PreflightWarning,
    process::command_line::CommandLine,
    serial_blocking_jobs::POOL,
    sink_settings::{SinkKind, SinkSettings},
    sinks::exec::ExecSettings,
};
use std::{collections::BTreeMap, time::Duration};

/// Maximum duration of the preflight check of one sink. Longer than the 5-second deadline for the read of one
/// secret file within the check.
const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(10);

impl SinkSettings {
    /// Returns the reasons why the sink would fail on this host now, with the values of `sources`.
    ///
    /// The check looks up files, users and programs, and changes nothing. It blocks for ten seconds at most.
    #[must_use]
    pub fn preflight(&self, sources: &[&str]) -> Vec<PreflightWarning> {
        let kind = self.kind.clone();
        let sources: Vec<String> = sources.iter().map(|&source| source.to_owned()).collect();
        let checked = POOL.spawn(move || kind.preflight(&sources)).wait(PREFLIGHT_TIMEOUT);
        checked.and_then(Result::ok).unwrap_or_else(|| {
            let key = match &self.kind {
                SinkKind::File(_) | SinkKind::Template(_) => "path",
                SinkKind::Exec(_) => "command",
                SinkKind::Stdout(_) | SinkKind::Signal(_) | SinkKind::Webhook(_) => "type",
            };
            let seconds = PREFLIGHT_TIMEOUT.as_secs();
            let reason = "the file system may not answer";
            vec![(
                key,
                format!("the files of the sink were not checked within {seconds}s; {reason}"),
            )]
        })
    }
}

impl SinkKind {
    fn preflight(&self, sources: &[String]) -> Vec<PreflightWarning> {
        match self {
            Self::Stdout(_) | Self::Signal(_) => Vec::new(),
            Self::File(settings) => {
                let mut warnings = settings.target().preflight();
                warnings.extend(check_preflight(settings.check.as_ref()));
                warnings
            }
            Self::Exec(ExecSettings { command, directory, env, .. }) => {
                command.preflight(directory.as_deref(), env)
            }
            Self::Webhook(settings) => settings.preflight(),
            Self::Template(settings) => {
                let mut warnings = settings.preflight(sources);
                warnings.extend(check_preflight(settings.check.as_ref()));
                warnings
            }
        }
    }
}

/// Returns the reasons why the command that checks a file cannot be started.
fn check_preflight(check: Option<&CommandLine>) -> Vec<PreflightWarning> {
    let warnings = check.map(|command| command.preflight(None, &BTreeMap::new()));
    let warnings = warnings.unwrap_or_default();
    warnings.into_iter().map(|(_, message)| ("check", message)).collect()
}
