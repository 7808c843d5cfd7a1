//! Settings of a source: as the operator wrote them, and resolved for an instance, with secrets, defaults and grants.

use crate::{configure_error::ConfigureError, denials::DENIED};
use reloader_net::secrets::{Secrets, zeroize_texts};
use reloader_policy::{
    Access, Credential, CredentialHeader, Decision, GrantError, Grants, Permission,
    plugin_settings::{self, SettingError},
};
use reloader_util::sanitize::sanitize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// Settings of a source as the operator wrote them.
#[derive(Debug, Clone, Default)]
pub(crate) struct OperatorSettings {
    /// Settings of the plugin, with references to secrets.
    pub(crate) settings: Map<String, Value>,
    pub(crate) permission: Permission,
    pub(crate) credentials: Vec<Credential>,
}

/// Settings of an instance, with the values of secrets. They are resolved again when a secret changes, and overwritten
/// when they are dropped.
#[derive(Debug)]
pub(crate) struct ResolvedSettings {
    /// Settings that the host passes to the plugin, in JSON.
    pub(crate) settings: Zeroizing<String>,
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
        let mut resolved =
            plugin_settings::resolve(schema, given.clone()).map_err(redact_settings)?;
        let settings = Zeroizing::new(resolved.to_string());
        zeroize_texts(&mut resolved);
        // Decides the grants from `given`, which lacks the defaults of the plugin's schema: otherwise a plugin could
        // grant itself access.
        let mut given = Value::Object(given);
        let decision = reloader_policy::decide(schema, &given, &self.permission);
        zeroize_texts(&mut given);
        let mut decision = decision.map_err(|errors| redact_grants(errors, &secrets))?;
        let mut credentials: Vec<CredentialHeader> = Vec::new();
        for credential in &self.credentials {
            let header = credential.header(|text| secrets.reveal_hidden(text));
            let header = header.map_err(ConfigureError::Credential)?;
            if credentials.iter().any(|other| other.conflicts_with(&header)) {
                return Err(ConfigureError::Credential(header.conflict_error()));
            }
            credentials.push(header);
        }
        let texts = decision
            .requested
            .iter_mut()
            .flat_map(|requested| [&mut requested.shown, &mut requested.flag]);
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
