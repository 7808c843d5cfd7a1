//! Preflight checks of a sink: files, users, programs, templates and secrets on this host.

use crate::{
    preflight_warning::PreflightWarning,
    sink_settings::{SinkKind, SinkSettings},
    sinks::exec::ExecSettings,
};

impl SinkSettings {
    /// Returns the reasons why the sink would fail on this host now, with the values of `sources`.
    ///
    /// The check looks up files, users and programs, and changes nothing.
    #[must_use]
    pub fn preflight(&self, sources: &[&str]) -> Vec<PreflightWarning> {
        match &self.kind {
            SinkKind::Stdout(_) | SinkKind::Signal(_) => Vec::new(),
            SinkKind::File(settings) => settings.preflight(),
            SinkKind::Exec(ExecSettings { command, directory, env, .. }) => {
                command.preflight(directory.as_deref(), env)
            }
            SinkKind::Webhook(settings) => settings.preflight(),
            SinkKind::Template(settings) => settings.preflight(sources),
        }
    }
}
