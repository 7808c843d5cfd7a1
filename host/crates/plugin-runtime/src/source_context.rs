//! What the instances of one source share, and what they are made with.

use crate::{
    ConfigureError, Limits, denials::Refusals, imports::LineBudget, meter::MemoryLeft,
    scheduler::cpu_quota::Pace,
};
use reloader_engine::types::SourceName;
use reloader_fs_watch::FileWatcher;
use reloader_net::Line;
use reloader_net::secrets::Secrets;
use reloader_policy::{
    Access, Credential, CredentialHeader, Decision, GrantError, Grants, Permission,
    plugin_settings::{self, SettingError},
};
use reloader_source::metrics::Counters;
use reloader_util::sanitize::sanitize;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What the instances of one source share, as long as it lives.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) source: SourceName,
    pub(crate) limits: Arc<Limits>,
    pub(crate) files: FileWatcher,
    pub(crate) line: Line,
    /// Of all instances together.
    pub(crate) memory: MemoryLeft,
    /// An instance whose memory takes long to be given back holds it until that is done.
    pub(crate) exit: Arc<Semaphore>,
    pub(crate) lines: Mutex<LineBudget>,
    pub(crate) refusals: Refusals,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pace: Arc<Pace>,
    /// The share of a bounded pool of memory, returned with the last instance.
    pub(crate) _reservation: Option<OwnedSemaphorePermit>,
}

impl Surroundings {
    pub(crate) fn new(
        source: SourceName,
        limits: Arc<Limits>,
        files: FileWatcher,
        line: Line,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            memory: MemoryLeft::new(limits.memory),
            exit: Arc::new(Semaphore::new(1)),
            lines: Mutex::new(LineBudget::new(limits.log_lines)),
            refusals: Refusals::new(source.clone(), Arc::clone(&counters)),
            pace: Arc::default(),
            _reservation: None,
            counters,
            source,
            limits,
            files,
            line,
        }
    }
}

/// What an operator wrote for a source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    /// With references to secrets.
    pub(crate) settings: Map<String, Value>,
    pub(crate) permission: Permission,
    pub(crate) credentials: Vec<Credential>,
}

/// What an instance is made with. It is made anew when a secret changes.
#[derive(Debug)]
pub(crate) struct Configured {
    /// The settings as the plugin gets them, in JSON.
    pub(crate) settings: String,
    pub(crate) granted: Grants,
    pub(crate) credentials: Vec<CredentialHeader>,
    pub(crate) secrets: Secrets,
}

impl Written {
    /// What it comes to, with this schema; and what was asked for.
    pub(crate) fn configure(
        &self,
        schema: &Value,
    ) -> Result<(Configured, Decision), ConfigureError> {
        let mut secrets = Secrets::default();
        let given = secrets.reveal_all(schema, &self.settings).map_err(ConfigureError::Settings)?;
        // A setting's wrong value is shown; what is secret in it is not.
        let redacted = |errors: Vec<SettingError>| {
            let redact = |error: SettingError| error.map(|text| secrets.redact(text).into_owned());
            ConfigureError::Settings(errors.into_iter().map(redact).collect())
        };
        let resolved = plugin_settings::resolve(schema, given.clone()).map_err(redacted)?;
        // From what the operator wrote, not from the plugin's own defaults.
        let mut decision = reloader_policy::decide(schema, &Value::Object(given), &self.permission)
            .map_err(|errors| hide(errors, &secrets))?;
        let mut credentials: Vec<CredentialHeader> = Vec::new();
        for credential in &self.credentials {
            let header = credential.header(|text| secrets.reveal_hidden(text));
            let header = header.map_err(ConfigureError::Credential)?;
            if credentials.iter().any(|other| other.is_instead_of(&header)) {
                return Err(ConfigureError::Credential(header.is_one_too_many()));
            }
            credentials.push(header);
        }
        let texts = decision.asked.iter_mut().flat_map(|asked| [&mut asked.shown, &mut asked.flag]);
        for text in texts.chain(&mut decision.flags) {
            *text = secrets.redact(text).into_owned();
        }
        let granted = decision.granted.clone();
        let configured =
            Configured { settings: resolved.to_string(), granted, credentials, secrets };
        Ok((configured, decision))
    }
}

/// A setting that cannot be granted is named, and what is secret in it is not.
fn hide(mut errors: Vec<GrantError>, secrets: &Secrets) -> ConfigureError {
    for error in &mut errors {
        error.reason = secrets.redact(&error.reason).into_owned();
    }
    ConfigureError::Grants(errors)
}

impl Configured {
    /// Whether this may be done; if not, why, and what would allow it.
    pub(crate) fn may(&self, access: &Access) -> Result<(), String> {
        if self.granted.allow(access) {
            return Ok(());
        }
        let (what, grant) = (access.describe(), access.grant());
        let why = format!(
            "refused to {what}: not granted; `{grant}` would allow it (in a configuration file: \
             `grants.{}`)",
            grant.key()
        );
        Err(sanitize(&self.secrets.redact(&why)))
    }
}
