//! Settings of a sink in a configuration file: common keys, and the keys of its type.

use crate::{
    delivery_values::Update,
    process::{command_line::CommandLine, command_settings::default_kill_after},
    sink::{Sink, SinkError},
    sinks::{
        exec::{Exec, ExecSettings},
        file::{File, FileSettings},
        signal::{SignalSettings, SignalSink},
        stdout::{StdoutSettings, StdoutSink},
        template::{Template, TemplateSettings},
        webhook::{Webhook, WebhookSettings},
    },
    worker_settings::{DEFAULT_TIMEOUT, OnRemoved, WaitSettings, WorkerSettings},
};
use reloader_util::units::Time;
use schemars::JsonSchema;
use serde::Serialize;
use std::{path::Path, time::Duration};

/// Settings of one sink.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SinkSettings {
    /// Type of the sink, with its type-specific settings.
    #[serde(flatten)]
    pub kind: SinkKind,
    /// Settings that do not depend on the type of the sink.
    #[serde(flatten)]
    pub common: CommonSettings,
}

/// Settings that all types of sinks have in common.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CommonSettings {
    /// Name of the sink in the log and in the state store. Default: its type and its index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Timeout of one delivery attempt. Default: `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Time>,
    /// Maximum number of retries after a failed delivery, with exponential backoff from 200 ms to
    /// 30 s. A newer value is delivered immediately. Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Interval of further retries after `retries` is exhausted. Default: `5m` for stdout, file,
    /// template and webhook sinks; exec and signal sinks do not retry until the value changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_later: Option<Time>,
    /// Action when the source removes its value: `keep` keeps the last delivered value; `clear`
    /// removes a file and delivers the event `removed` to other sinks. Default: `keep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_removed: Option<OnRemoved>,
}

/// Types of sinks.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant, reason = "a configuration has few sinks")]
pub enum SinkKind {
    /// Standard output.
    Stdout(StdoutSettings),
    /// A file with the value.
    File(FileSettings),
    /// A command that runs for each value.
    Exec(ExecSettings),
    /// A signal to a process.
    Signal(SignalSettings),
    /// An HTTP request.
    Webhook(WebhookSettings),
    /// A file rendered from a template.
    Template(TemplateSettings),
}

/// Default maximum number of retries with backoff after a failed delivery.
const DEFAULT_RETRIES: u32 = 10;
/// Default interval of retries after `retries` is exhausted.
const DEFAULT_RETRY_LATER: Duration = Duration::from_secs(300);
/// Time to start a command, to kill it, and to read its remaining output, in addition to its timeout and its grace
/// period.
const EXEC_OVERHEAD: Duration = Duration::from_secs(25);

impl SinkKind {
    /// Returns the name of the type, as in the key `type`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stdout(_) => "stdout",
            Self::File(_) => "file",
            Self::Exec(_) => "exec",
            Self::Signal(_) => "signal",
            Self::Webhook(_) => "webhook",
            Self::Template(_) => "template",
        }
    }

    /// Returns the digest of the settings for the delivery record. The record does not contain the settings
    /// themselves, because they may contain secrets.
    fn fingerprint(&self) -> String {
        let settings = serde_json::to_value(self).unwrap_or_default();
        Update::new(Vec::new()).digest(&settings.to_string()).to_string()
    }
}

impl From<SinkKind> for SinkSettings {
    fn from(kind: SinkKind) -> Self {
        Self { common: CommonSettings::default(), kind }
    }
}

impl SinkSettings {
    /// Returns the configured name, if any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.common.name.as_deref()
    }

    /// Returns the name of the type, as in the key `type`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind.name()
    }

    /// Returns whether the sink writes a file. Notifiers of the same source or group run after the sinks that
    /// write files.
    #[must_use]
    pub fn writes_file(&self) -> bool {
        matches!(self.kind, SinkKind::File(_) | SinkKind::Template(_))
    }

    /// Returns whether the sink is an `exec` or `signal` sink. Such a notifier waits for the sinks of the same source
    /// or group that write files. A webhook does not wait.
    #[must_use]
    pub fn is_notifier(&self) -> bool {
        matches!(self.kind, SinkKind::Exec(_) | SinkKind::Signal(_))
    }

    /// Returns whether the sink runs a command. The error of such a sink contains the last output lines of the
    /// command, which may contain the value.
    #[must_use]
    pub fn runs_command(&self) -> bool {
        matches!(self.kind, SinkKind::Exec(_)) || self.check().is_some()
    }

    /// Returns the command that checks new content of the file that the sink writes, if any.
    #[must_use]
    pub fn check(&self) -> Option<&CommandLine> {
        match &self.kind {
            SinkKind::File(settings) => settings.check.as_ref(),
            SinkKind::Template(settings) => settings.check.as_ref(),
            _ => None,
        }
    }

    /// Returns the path of the template file that the sink reads, if any.
    #[must_use]
    pub fn template_file(&self) -> Option<&Path> {
        match &self.kind {
            SinkKind::Template(settings) => settings.template_file.as_deref(),
            _ => None,
        }
    }

    /// Returns the path of the file that the sink writes; `None` if the sink writes no file.
    #[must_use]
    pub fn writes_to(&self) -> Option<&Path> {
        match &self.kind {
            SinkKind::File(settings) => Some(&settings.path),
            SinkKind::Template(settings) => Some(&settings.path),
            SinkKind::Stdout(_)
            | SinkKind::Exec(_)
            | SinkKind::Signal(_)
            | SinkKind::Webhook(_) => None,
        }
    }

    /// Returns a sink with these settings. `owner` is the name of its source or group, for the log. Does not
    /// access files or the network.
    ///
    /// # Errors
    ///
    /// Returns an error for settings that can never work, e.g. an invalid template or URL.
    pub fn build(&self, owner: &str) -> Result<Box<dyn Sink>, SinkError> {
        let label = format!("{owner}/{}", self.name().unwrap_or(self.kind()));
        Ok(match self.kind.clone() {
            SinkKind::Stdout(settings) => Box::new(StdoutSink::new(settings.format)),
            SinkKind::File(settings) => {
                if settings.at.as_ref().is_some_and(|at| !at.starts_with('/')) {
                    return Err(SinkError::permanent(
                        "`at`: expected a JSON Pointer, such as `/tls/cert`",
                    ));
                }
                Box::new(File::named(&label, settings, self.timeout()))
            }
            SinkKind::Exec(settings) => Box::new(Exec::new(label, settings, self.timeout())),
            SinkKind::Signal(settings) => Box::new(SignalSink::new(settings)),
            SinkKind::Webhook(settings) => Box::new(Webhook::new(settings)?),
            SinkKind::Template(settings) => {
                Box::new(Template::named(&label, &settings, self.timeout())?)
            }
        })
    }

    /// Returns the settings of the sink's worker. `wait` is the debounce of the sink's group.
    #[must_use]
    pub fn worker(&self, wait: Option<&WaitSettings>) -> WorkerSettings {
        let timeout = match &self.kind {
            // `Exec` stops the command after its timeout. The worker waits longer: also for the start,
            // the grace period and the cleanup.
            SinkKind::Exec(exec) => self.timeout() + exec.kill_after.0 + EXEC_OVERHEAD,
            // The check of a file has the same timeout.
            _ if self.check().is_some() => self.timeout() + default_kill_after().0 + EXEC_OVERHEAD,
            _ => self.timeout(),
        };
        WorkerSettings {
            timeout,
            retries: self.common.retries.unwrap_or(DEFAULT_RETRIES),
            retry_later: match self.common.retry_later {
                Some(later) => Some(later.0),
                None => (!self.is_notifier()).then_some(DEFAULT_RETRY_LATER),
            },
            on_removed: self.common.on_removed.unwrap_or_default(),
            wait: wait.copied(),
            fingerprint: self.kind.fingerprint(),
        }
    }

    fn timeout(&self) -> Duration {
        self.common.timeout.map_or(DEFAULT_TIMEOUT, |time| time.0)
    }
}
