//! Preparation of sources: loads the plugins, checks their settings, and builds the validators, so that
//! the sources can be started.

use crate::{
    config::{Config, ConfigError, GroupConfig, InvalidSetting, SourceConfig},
    config_read_pool::{CONFIG_POOL, FILE_ACCESS_TIMEOUT},
    state_persistence::StateReadError,
};
use reloader_delivery::{
    SinkSettings,
    source_value_validation::{PluginValidators, ValidateSettings},
};
use reloader_fs_watch::{FileAccessError, FileFingerprint, access_within, open};
use reloader_net::TlsSettings;
use reloader_plugin_runtime::{
    ConfigureError, JsonSchemaSettings, JsonSchemaValidator, Limits, LoadError, Plugin, PluginHost,
    SourceBuilder, is_path,
};
use reloader_source::{metrics::Counters, running_source::SourceParts, validator::Validator};
use std::{
    collections::{BTreeSet, HashMap},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Mutex, time::timeout};

/// Time limit for reading all files with secrets of a source. Each file also has a shorter deadline, whose error names
/// the file. This limit is long enough that several files reach their deadlines first.
const SECRETS_TIMEOUT: Duration = Duration::from_secs(30);

/// Source whose plugins are loaded and whose settings are checked, so that it can be started.
#[derive(Clone)]
pub struct Prepared {
    pub(crate) config: Arc<SourceConfig>,
    pub(crate) plugin: Plugin,
    pub(crate) builder: SourceBuilder,
    /// Plugin that validates the values; `None` if no validator plugin is configured.
    validator: Option<Plugin>,
    /// Fingerprints of the plugin files, taken before the files were loaded. Bundled plugins have no file.
    pub(crate) fingerprints: Vec<(String, Option<FileFingerprint>)>,
}

impl Prepared {
    /// Replaces the settings that concern only the host: sinks, `required`, `store` and `readable`.
    pub(crate) fn with_host_settings_of(mut self, other: &SourceConfig) -> Self {
        if !self.config.has_host_settings_of(other) {
            let config = SourceConfig::clone(&self.config);
            self.config = Arc::new(config.with_host_settings_of(other));
        }
        self
    }

    /// Returns the provider, the validator and the engine settings of the source. Reads the files with secrets.
    pub(crate) async fn parts(&self, counters: &Arc<Counters>) -> Result<SourceParts, PartsError> {
        let builder = self.builder.clone().counters(Arc::clone(counters));
        let parts = timeout(SECRETS_TIMEOUT, builder.parts_off_thread()).await;
        Ok(parts.map_err(|_| SecretTimeout)??)
    }

    /// Returns the digests of the source plugin and of the validator.
    pub(crate) fn plugin_digests(&self) -> [Option<&str>; 2] {
        let plugins = [Some(&self.plugin), self.validator.as_ref()];
        plugins.map(|plugin| plugin.map(|plugin| plugin.description().digest.as_str()))
    }
}

/// Reason why the parts of a source cannot be created, so that it does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartsError {
    /// The settings, grants or credentials of the source are invalid, or do not suit its plugin.
    #[error(transparent)]
    Settings(#[from] ConfigureError),
    /// A file with a secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretTimeout),
    /// The stored state of the source cannot be read.
    #[error(transparent)]
    State(#[from] StateReadError),
}

/// A file with a secret cannot be read, because its file system does not answer.
#[derive(Debug, thiserror::Error)]
#[error("a file with a secret cannot be read: {}", FileAccessError::NoAnswer(SECRETS_TIMEOUT))]
pub(crate) struct SecretTimeout;

/// Returns the error of the setting `key` in the table of a source.
fn invalid(key: &str, message: impl ToString) -> InvalidSetting {
    InvalidSetting::new(vec![key.into()], message.to_string())
}

/// Returns the error of a plugin that cannot be loaded.
fn not_loaded(key: &str, error: &LoadError) -> InvalidSetting {
    InvalidSetting { is_temporary: error.is_temporary(), ..invalid(key, error) }
}

/// Converts an error of a plugin to errors of settings. `key` is the key in the table of the source that contains the
/// settings of the plugin.
fn invalid_plugin_settings(key: &str, error: &ConfigureError) -> Vec<InvalidSetting> {
    // `setting` is a path of keys, separated by dots.
    let below = |setting: Option<&str>, message: String| {
        let levels = setting.into_iter().flat_map(|setting| setting.split('.'));
        let path = [key].into_iter().chain(levels).map(Into::into).collect();
        InvalidSetting::new(path, message)
    };
    match error {
        ConfigureError::Settings(errors) => {
            errors.iter().map(|error| below(error.setting(), error.to_string())).collect()
        }
        ConfigureError::Grants(errors) => {
            errors.iter().map(|error| below(Some(&error.setting), error.to_string())).collect()
        }
        ConfigureError::Credential(_) => vec![invalid("credentials", error)],
        ConfigureError::CannotWatch { .. } => vec![invalid("strategy", error)],
        ConfigureError::NotASource { .. } | ConfigureError::NotAValidator { .. } => {
            vec![invalid("plugin", error)]
        }
        ConfigureError::Unresolved(_) => vec![invalid(key, error)],
    }
}

/// Reads the fingerprint of a plugin file, and checks that its file system responds to a read.
pub(crate) async fn plugin_fingerprint(
    path: &str,
) -> Result<Option<FileFingerprint>, FileAccessError> {
    let path = PathBuf::from(path);
    let file = path.clone();
    access_within(&file, FILE_ACCESS_TIMEOUT, move || {
        let fingerprint = FileFingerprint::read(&path);
        // A file system may return cached metadata of a file although its reads hang.
        let _ = open(&path).and_then(|mut file| file.read(&mut [0]));
        fingerprint
    })
    .await
}

/// Loads each plugin once for all sources with the same limits.
pub(crate) struct Plugins<'a> {
    runtime: &'a PluginHost,
    loaded: Mutex<HashMap<String, Vec<Loaded>>>,
    fingerprints: Mutex<HashMap<String, Result<Option<FileFingerprint>, String>>>,
}

/// Limits with which a plugin was loaded, and the loaded plugin or the error of the load.
type Loaded = (Limits, Result<Plugin, Arc<LoadError>>);

impl<'a> Plugins<'a> {
    pub(crate) fn new(runtime: &'a PluginHost) -> Self {
        Self { runtime, loaded: Mutex::default(), fingerprints: Mutex::default() }
    }

    /// Returns the fingerprint of a plugin's file, taken once for all sources, before the plugin is loaded.
    async fn fingerprint(&self, path: &str) -> Result<Option<FileFingerprint>, String> {
        let mut known = self.fingerprints.lock().await;
        if let Some(fingerprint) = known.get(path) {
            return fingerprint.clone();
        }
        let fingerprint = plugin_fingerprint(path).await;
        let fingerprint = fingerprint.map_err(|error| format!("`{path}`: {error}"));
        known.insert(path.into(), fingerprint.clone());
        fingerprint
    }

    /// Returns whether the plugin files of a running source are unchanged since the source was prepared.
    pub(crate) async fn are_unchanged(&self, running: &Prepared) -> bool {
        for (path, known) in &running.fingerprints {
            if self.fingerprint(path).await.ok().as_ref() != Some(known) {
                return false;
            }
        }
        true
    }

    async fn load(&self, name: &str, limits: &Limits) -> Result<Plugin, Arc<LoadError>> {
        let mut loaded = self.loaded.lock().await;
        let loaded = loaded.entry(name.into()).or_default();
        if let Some((_, plugin)) = loaded.iter().find(|(with, _)| with == limits) {
            return plugin.clone();
        }
        let plugin = self.runtime.load_within(name, limits).await;
        let plugin = plugin.map_err(Arc::new);
        loaded.push((limits.clone(), plugin.clone()));
        plugin
    }

    /// Prepares one source: checks everything that can be checked without opening the source.
    pub(crate) async fn prepare(
        &self,
        config: &Arc<SourceConfig>,
    ) -> Result<Prepared, Vec<InvalidSetting>> {
        let mut fingerprints = Vec::new();
        for path in config.plugins().filter(|name| is_path(name)) {
            let fingerprint = self.fingerprint(path).await;
            let fingerprint = fingerprint.map_err(|error| {
                vec![InvalidSetting { is_temporary: true, ..invalid("plugin", error) }]
            })?;
            fingerprints.push((path.to_owned(), fingerprint));
        }
        let plugin = self.load(&config.plugin, &config.limits).await;
        let plugin = plugin.map_err(|error| vec![not_loaded("plugin", &error)])?;
        let digest = &plugin.description().digest;
        if let Some(wanted) = &config.sha256
            && wanted != digest
        {
            let message = format!("SHA-256 mismatch: the plugin has {digest}");
            return Err(vec![invalid("sha256", message)]);
        }
        let mut builder = plugin
            .source(config.name.as_str())
            .settings(config.settings.clone())
            .permission(config.permission.clone())
            .limits(config.limits.clone())
            .tls(config.tls.clone());
        for credential in &config.credentials {
            builder = builder.credential(credential.clone());
        }
        for range in &config.addresses {
            builder = builder.allow_address(*range);
        }
        if let Some(strategy) = config.strategy {
            builder = builder.strategy(strategy);
        }
        if let Some(interval) = config.interval {
            builder = builder.interval(interval);
        }
        if let Some(reconcile) = config.reconcile {
            builder = builder.reconcile(reconcile);
        }
        if let Some(stale_after) = config.stale_after {
            builder = builder.stale_after(stale_after);
        }
        let mut errors = Vec::new();
        let mut validator_plugin = None;
        if let Some(settings) = &config.validate {
            match self.validator_chain(config, settings).await {
                Ok((validators, plugin)) => {
                    builder = validators.into_iter().fold(builder, SourceBuilder::validate);
                    validator_plugin = plugin;
                }
                Err(found) => errors.extend(found),
            }
        }
        match timeout(SECRETS_TIMEOUT, builder.provider_off_thread()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => errors.extend(invalid_plugin_settings("config", &error)),
            Err(_) => errors
                .push(InvalidSetting { is_temporary: true, ..invalid("config", SecretTimeout) }),
        }
        if config.tls != TlsSettings::default() {
            let tls = config.tls.clone();
            // Needs no timeout: the check reads each file with a deadline.
            match CONFIG_POOL.spawn(move || tls.check()).await {
                Ok(checked) => errors.extend(checked.err().map(|error| invalid("tls", error))),
                Err(error) => errors.push(invalid("tls", error)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let config = Arc::clone(config);
        Ok(Prepared { config, plugin, builder, validator: validator_plugin, fingerprints })
    }

    /// Creates the validators of a source. Returns them combined into one, and the validator plugin, if configured.
    async fn validator_chain(
        &self,
        config: &SourceConfig,
        settings: &ValidateSettings,
    ) -> Result<(Option<Arc<dyn Validator>>, Option<Plugin>), Vec<InvalidSetting>> {
        let problems = settings.problems().into_iter();
        let mut errors: Vec<_> = problems.map(|problem| invalid("validate", problem)).collect();
        let mut validators = PluginValidators::default();
        let mut plugin = None;
        if let Some(path) = &settings.schema {
            match self.schema_validator(path, config, settings).await {
                Ok(validator) => validators.schema = Some(validator),
                Err(error) => errors.push(invalid("validate", error)),
            }
        }
        if let Some(name) = &settings.plugin {
            match self.plugin_validator(name, config, settings).await {
                Ok((validator, its_plugin)) => {
                    (validators.plugin, plugin) = (Some(validator), Some(its_plugin));
                }
                Err(error) => {
                    let lines = error.lines();
                    errors.extend(lines.map(|line| invalid("validate", line)));
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok((settings.validator(validators), plugin))
    }

    /// Creates a JSON Schema validator and checks that the schema compiles.
    async fn schema_validator(
        &self,
        path: &Path,
        config: &SourceConfig,
        settings: &ValidateSettings,
    ) -> Result<Arc<dyn Validator>, String> {
        // The limits of the source may be too low for the bundled validator plugin, so it is loaded with the default
        // limits. Only a longer `compile-time` of the source applies.
        let defaults = Limits::default();
        let compile_time = config.limits.compile_time.max(defaults.compile_time);
        let limits = Limits { compile_time, ..defaults };
        let plugin = self
            .load(JsonSchemaValidator::PLUGIN, &limits)
            .await
            .map_err(|error| error.to_string())?;
        let settings = JsonSchemaSettings {
            path: path.to_owned(),
            format: settings.format(),
            not_empty: settings.not_empty,
            timeout: settings.timeout.0,
        };
        let name = config.name.as_str();
        let validator = JsonSchemaValidator::new(plugin, name, settings, &config.limits);
        validator.check_schema().await.map_err(|failure| failure.to_string())?;
        Ok(Arc::new(validator))
    }

    /// Creates a validator that calls the validator plugin `name`.
    async fn plugin_validator(
        &self,
        name: &str,
        config: &SourceConfig,
        settings: &ValidateSettings,
    ) -> Result<(Arc<dyn Validator>, Plugin), String> {
        let plugin = self.load(name, &config.limits).await.map_err(|error| error.to_string())?;
        let limits = Limits { call_timeout: settings.timeout.0, ..config.limits.clone() };
        let validator = plugin.validator(config.name.as_str()).settings(settings.config.clone());
        let validator = validator.limits(limits).build().map_err(|error| error.to_string())?;
        Ok((validator, plugin))
    }
}

/// Returns the errors of the sinks of a source or group, with the index of the sink.
fn sink_errors(owner: &str, sinks: &[SinkSettings]) -> Vec<(usize, String)> {
    let mut names = BTreeSet::new();
    let mut errors = Vec::new();
    for (index, sink) in sinks.iter().enumerate() {
        if let Some(name) = sink.name().filter(|name| !names.insert(*name)) {
            errors.push((index, format!("duplicate sink name `{name}`")));
        }
        if let Err(error) = sink.build(owner) {
            errors.push((index, error.to_string()));
        }
    }
    errors
}

/// Prepares all sources of a configuration.
///
/// # Errors
///
/// All errors of the configuration, with their places in the file.
pub async fn prepare(runtime: &PluginHost, config: &Config) -> Result<Vec<Prepared>, ConfigError> {
    prepare_where(&Plugins::new(runtime), config, &|_| true, |_| true).await
}

/// Prepares the sources whose index `is_wanted` selects. Checks the sinks of these sources, and of the groups that
/// `is_wanted_group` selects.
///
/// # Errors
///
/// All errors of the configuration, with their places in the file.
pub(crate) async fn prepare_where(
    plugins: &Plugins<'_>,
    config: &Config,
    is_wanted: &(impl Fn(usize) -> bool + Sync),
    is_wanted_group: impl Fn(&GroupConfig) -> bool,
) -> Result<Vec<Prepared>, ConfigError> {
    let mut prepared = Vec::new();
    let mut errors = Vec::new();
    let wanted = config.sources.iter().enumerate().filter(|(index, _)| is_wanted(*index));
    for (index, source) in wanted.clone() {
        match plugins.prepare(source).await {
            Ok(source) => prepared.push(source),
            Err(found) => errors.extend(found.into_iter().map(|setting| {
                let place = config.source_path(index).into_iter();
                InvalidSetting { path: place.chain(setting.path).collect(), ..setting }
            })),
        }
    }
    for (index, source) in wanted.filter(|_| config.is_valid()) {
        for (sink, message) in sink_errors(source.name.as_str(), &source.sinks) {
            let sink = ["sink".into(), sink.to_string()];
            let path = config.source_path(index).into_iter().chain(sink).collect();
            errors.push(InvalidSetting::new(path, message));
        }
    }
    let groups = config.groups.iter().enumerate().filter(|_| config.is_valid());
    for (index, group) in groups.filter(|(_, group)| is_wanted_group(group)) {
        for (sink, message) in sink_errors(&group.name, &group.sinks) {
            let path = ["group", &index.to_string(), "sink", &sink.to_string()];
            let path = path.map(Into::into).to_vec();
            errors.push(InvalidSetting::new(path, message));
        }
    }
    if errors.is_empty() && config.is_valid() {
        Ok(prepared)
    } else {
        Err(config.error_with(errors))
    }
}

/// Reads a configuration file and prepares its sources.
///
/// # Errors
///
/// All errors of the file and of the settings of its plugins, with their places in the file.
pub async fn check(
    runtime: &PluginHost,
    path: &Path,
) -> Result<(Config, Vec<Prepared>), ConfigError> {
    let file = path.to_owned();
    let config = CONFIG_POOL.spawn(move || Config::read_partial(&file, None)).await;
    let config =
        config.unwrap_or_else(|error| Err(ConfigError::unreadable(path.into(), &error)))?;
    let prepared = prepare(runtime, &config).await?;
    Ok((config, prepared))
}
