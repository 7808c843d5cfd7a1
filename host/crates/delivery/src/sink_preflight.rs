//! Preflight checks of a sink: files, users, programs, templates and secrets on this host.

use crate::{
    preflight_warning::PreflightWarning,
    sink_settings::{Kind, SinkSettings},
    sinks::exec::ExecSettings,
};

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
}
