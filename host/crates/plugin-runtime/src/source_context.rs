//! Source context: state that the instances of one source share. Settings: as configured by the operator, and
//! resolved for an instance.

use crate::{
    configure_error::ConfigureError,
    denials::{DENIED, Denials},
    limits::Limits,
    log_budget::LogBudget,
    memory_limiter::MemoryBudget,
    scheduler::cpu_quota::CpuQuota,
};
use reloader_engine::types::SourceName;
use reloader_fs_watch::FileWatcher;
use reloader_net::Egress;
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

/// State that the instances of one source share, for the lifetime of the source.
#[derive(Debug)]
pub(crate) struct SourceContext {
    pub(crate) source: SourceName,
    pub(crate) limits: Arc<Limits>,
    pub(crate) files: FileWatcher,
    pub(crate) egress: Egress,
    /// Memory budget of all instances together.
    pub(crate) memory: MemoryBudget,
    /// Held while a large store is dropped in a pool. An instance is opened only after that, so that the real
    /// memory of a source stays within its limit.
    pub(crate) pending_drop: Arc<Semaphore>,
    pub(crate) log_budget: Mutex<LogBudget>,
    pub(crate) denials: Denials,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cpu_quota: Arc<CpuQuota>,
    /// Reservation of memory shared with other sources. Released when the last instance is dropped.
    pub(crate) _reservation: Option<OwnedSemaphorePermit>,
}

impl SourceContext {
    pub(crate) fn new(
        source: SourceName,
        limits: Arc<Limits>,
        files: FileWatcher,
        egress: Egress,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            memory: MemoryBudget::new(limits.memory),
            pending_drop: Arc::new(Semaphore::new(1)),
            log_budget: Mutex::new(LogBudget::new(limits.log_lines)),
            denials: Denials::new(source.clone(), Arc::clone(&counters)),
            cpu_quota: Arc::default(),
            _reservation: None,
            counters,
            source,
            limits,
            files,
            egress,
        }
    }
}

/// Settings of a source as the operator wrote them.
#[derive(Debug, Clone, Default)]
pub(crate) struct OperatorSettings {
    /// Settings of the plugin, with references to secrets.
    pub(crate) settings: Map<String, Value>,
    pub(crate) permission: Permission,
    pub(crate) credentials: Vec<Credential>,
}

/// Settings of an instance, with the values of secrets. They are resolved again when a secret changes.
#[derive(Debug)]
pub(crate) struct ResolvedSettings {
    /// Settings for the plugin, in JSON.
    pub(crate) settings: String,
    pub(crate) granted: Grants,
    pub(crate) credentials: Vec<CredentialHeader>,
    pub(crate) secrets: Secrets,
}

impl OperatorSettings {
    /// Resolves secrets, adds the defaults of the schema, and decides the grants.
    ///
    /// # Errors
    ///
    /// Errors of the settings, the grants or a credential, with secrets redacted.
    pub(crate) fn resolve(
        &self,
        schema: &Value,
    ) -> Result<(ResolvedSettings, Decision), ConfigureError> {
        let mut secrets = Secrets::default();
        let given = secrets.reveal_all(schema, &self.settings).map_err(ConfigureError::Settings)?;
        let redact_settings = |errors: Vec<SettingError>| {
            let redact = |error: SettingError| error.map(|text| secrets.redact(text).into_owned());
            ConfigureError::Settings(errors.into_iter().map(redact).collect())
        };
        let settings =
            plugin_settings::resolve(schema, given.clone()).map_err(redact_settings)?.to_string();
        // Settings of the operator imply grants. Defaults in the plugin's schema do not.
        let mut decision = reloader_policy::decide(schema, &Value::Object(given), &self.permission)
            .map_err(|errors| redact_grants(errors, &secrets))?;
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
        Ok((ResolvedSettings { settings, granted, credentials, secrets }, decision))
    }
}

/// Redacts secrets in the reasons of grant errors.
fn redact_grants(mut errors: Vec<GrantError>, secrets: &Secrets) -> ConfigureError {
    for error in &mut errors {
        error.reason = secrets.redact(&error.reason).into_owned();
    }
    ConfigureError::Grants(errors)
}

impl ResolvedSettings {
    /// Checks an access against the grants.
    ///
    /// # Errors
    ///
    /// The reason of the denial, with the grant that would allow the access.
    pub(crate) fn check_access(&self, access: &Access) -> Result<(), String> {
        if self.granted.allow(access) {
            return Ok(());
        }
        let (action, grant) = (access.describe(), access.grant());
        let reason = format!(
            "{DENIED}no grant to {action}; `{grant}` would allow it (in a configuration file: \
             `grants.{}`)",
            grant.key()
        );
        Err(sanitize(&self.secrets.redact(&reason)))
    }
}
