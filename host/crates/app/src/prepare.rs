//! Preparation of sources: loads the plugins, checks their settings, and builds the validators, so that
//! the sources can be started.

use crate::config::{Config, ConfigError, SourceConfig};
use crate::reload_triggers::Stamp;
use reloader_delivery::{
    SinkSettings,
    validate::{PluginValidators, ValidateSettings},
};
use reloader_engine::types::{Outcome, SourceName};
use reloader_plugin_runtime::{
    ConfigureError, JsonSchemaSettings, JsonSchemaValidator, Limits, Plugin, PluginHost,
    SourceBuilder,
};
use reloader_source::validator::Validator;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, task::JoinSet, task::spawn_blocking, time::timeout};

/// Maximum number of sources that [`check_online`] opens at the same time.
const MAX_CONCURRENT_CHECKS: usize = 16;

/// Source whose plugins are loaded and whose settings are checked, so that it can be started.
#[derive(Clone)]
pub struct Prepared {
    pub(crate) config: SourceConfig,
    pub(crate) plugin: Plugin,
    pub(crate) builder: SourceBuilder,
    /// Plugin that validates the values.
    validator: Option<Plugin>,
    /// Stamps of the plugin files, taken before the files were loaded.
    pub(crate) stamps: Vec<(String, Option<Stamp>)>,
}

impl Prepared {
    /// Replaces the settings that concern only the host: sinks, `required`, `store` and `readable`.
    pub(crate) fn with_host_settings_of(mut self, other: &SourceConfig) -> Self {
        self.config.sinks.clone_from(&other.sinks);
        self.config.required = other.required;
        self.config.store = other.store;
        self.config.readable = other.readable;
        self
    }

    /// Returns whether the plugins and all settings are the same, except for those that concern only the
    /// host.
    pub(crate) fn is_same_source(&self, other: &Self) -> bool {
        self.clone().with_host_settings_of(&other.config).config == other.config
            && self.digests() == other.digests()
    }

    /// Returns whether the source plugin and the settings that reach it are the same. Intervals and
    /// validation do not reach it.
    pub(crate) fn has_same_input(&self, other: &Self) -> bool {
        let mut one = self.clone().with_host_settings_of(&other.config).config;
        let SourceConfig { interval, reconcile, stale_after, validate, .. } = other.config.clone();
        (one.interval, one.reconcile, one.stale_after) = (interval, reconcile, stale_after);
        one.validate = validate;
        one == other.config && self.digests()[0] == other.digests()[0]
    }

    /// Returns the digests of the source plugin and of the validator.
    fn digests(&self) -> [Option<&str>; 2] {
        let plugins = [Some(&self.plugin), self.validator.as_ref()];
        plugins.map(|plugin| plugin.map(|plugin| plugin.description().digest.as_str()))
    }
}

/// Invalid setting of a source.
pub(crate) struct SettingError {
    /// Path of the setting in the table of the source.
    pub(crate) path: Vec<String>,
    pub(crate) message: String,
}

impl SettingError {
    fn at(key: &str, message: impl ToString) -> Self {
        Self { path: vec![key.into()], message: message.to_string() }
    }

    /// Creates the error of a plugin's setting below `key`. `setting` has dots between its levels.
    fn at_setting(key: &str, setting: Option<&str>, message: impl ToString) -> Self {
        let below = setting.into_iter().flat_map(|setting| setting.split('.'));
        let path = [key].into_iter().chain(below).map(Into::into).collect();
        Self { path, message: message.to_string() }
    }

    /// Converts the error of a plugin whose settings are below `key`.
    fn from_plugin(key: &str, error: &ConfigureError) -> Vec<Self> {
        let of = |setting, message| Self::at_setting(key, setting, message);
        match error {
            ConfigureError::Settings(errors) => {
                errors.iter().map(|error| of(error.setting(), error.to_string())).collect()
            }
            ConfigureError::Grants(errors) => {
                errors.iter().map(|error| of(Some(&error.setting), error.to_string())).collect()
            }
            ConfigureError::Credential(_) => vec![Self::at("credentials", error)],
            ConfigureError::CannotWatch { .. } => vec![Self::at("strategy", error)],
            ConfigureError::NotASource { .. } | ConfigureError::NotAValidator { .. } => {
                vec![Self::at("plugin", error)]
            }
        }
    }
}

/// Loads plugins, each once for all sources.
pub(crate) struct Plugins<'a> {
    runtime: &'a PluginHost,
    loaded: Mutex<Vec<Loaded>>,
}

/// Name and limits with which a plugin was loaded, and the plugin or the error.
type Loaded = (String, Limits, Result<Plugin, String>);

impl<'a> Plugins<'a> {
    pub(crate) fn new(runtime: &'a PluginHost) -> Self {
        Self { runtime, loaded: Mutex::default() }
    }

    async fn load(&self, name: &str, limits: &Limits) -> Result<Plugin, String> {
        let mut loaded = self.loaded.lock().await;
        if let Some((.., plugin)) =
            loaded.iter().find(|(known, with, _)| known == name && with == limits)
        {
            return plugin.clone();
        }
        let plugin = self.runtime.load_within(name, limits).await;
        let plugin = plugin.map_err(|error| error.to_string());
        loaded.push((name.into(), limits.clone(), plugin.clone()));
        plugin
    }

    /// Prepares one source: checks everything that can be checked without opening the source.
    pub(crate) async fn prepare(
        &self,
        config: &SourceConfig,
    ) -> Result<Prepared, Vec<SettingError>> {
        let stamps = config.plugins().map(|plugin| (plugin.to_owned(), Stamp::of_plugin(plugin)));
        let stamps = stamps.collect();
        let plugin = self.load(&config.plugin, &config.limits).await;
        let plugin = plugin.map_err(|error| vec![SettingError::at("plugin", error)])?;
        let digest = &plugin.description().digest;
        if let Some(wanted) = &config.sha256
            && wanted != digest
        {
            let message = format!("SHA-256 mismatch: the plugin has {digest}");
            return Err(vec![SettingError::at("sha256", message)]);
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
        if let Err(error) = builder.origin() {
            errors.extend(SettingError::from_plugin("config", &error));
        }
        let tls = config.tls.clone();
        if let Ok(Err(error)) = spawn_blocking(move || tls.check()).await {
            errors.push(SettingError::at("tls", error));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let config = config.clone();
        Ok(Prepared { config, plugin, builder, validator: validator_plugin, stamps })
    }

    /// Creates the validators of a source. Returns them as one, together with the validator plugin.
    async fn validator_chain(
        &self,
        config: &SourceConfig,
        settings: &ValidateSettings,
    ) -> Result<(Option<Arc<dyn Validator>>, Option<Plugin>), Vec<SettingError>> {
        let problems = settings.problems().into_iter();
        let mut errors: Vec<_> =
            problems.map(|problem| SettingError::at("validate", problem)).collect();
        let mut validators = PluginValidators::default();
        let mut plugin = None;
        if let Some(path) = &settings.schema {
            match self.schema_validator(path, config, settings).await {
                Ok(validator) => validators.schema = Some(validator),
                Err(error) => errors.push(SettingError::at("validate", error)),
            }
        }
        if let Some(name) = &settings.plugin {
            match self.plugin_validator(name, config, settings).await {
                Ok((validator, its_plugin)) => {
                    (validators.plugin, plugin) = (Some(validator), Some(its_plugin));
                }
                Err(error) => {
                    let lines = error.lines();
                    errors.extend(lines.map(|line| SettingError::at("validate", line)));
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok((settings.judge(validators), plugin))
    }

    /// Creates a JSON Schema validator and checks that the schema compiles.
    async fn schema_validator(
        &self,
        path: &Path,
        config: &SourceConfig,
        settings: &ValidateSettings,
    ) -> Result<Arc<dyn Validator>, String> {
        let plugin = self.load(JsonSchemaValidator::PLUGIN, &Limits::default()).await?;
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

    /// Creates the validator of a plugin.
    async fn plugin_validator(
        &self,
        name: &str,
        config: &SourceConfig,
        settings: &ValidateSettings,
    ) -> Result<(Arc<dyn Validator>, Plugin), String> {
        let plugin = self.load(name, &config.limits).await?;
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
    let plugins = Plugins::new(runtime);
    let mut prepared = Vec::with_capacity(config.sources.len());
    let mut errors = Vec::new();
    for (index, source) in config.sources.iter().enumerate() {
        match plugins.prepare(source).await {
            Ok(source) => prepared.push(source),
            Err(found) => errors.extend(found.into_iter().map(|SettingError { path, message }| {
                (config.source_path(index).into_iter().chain(path).collect(), message)
            })),
        }
    }
    for (index, source) in config.sources.iter().enumerate().filter(|_| config.is_valid()) {
        for (sink, message) in sink_errors(source.name.as_str(), &source.sinks) {
            let sink = ["sink".into(), sink.to_string()];
            let path = config.source_path(index).into_iter().chain(sink);
            errors.push((path.collect(), message));
        }
    }
    for (index, group) in config.groups.iter().enumerate().filter(|_| config.is_valid()) {
        for (sink, message) in sink_errors(&group.name, &group.sinks) {
            let path = ["group", &index.to_string(), "sink", &sink.to_string()];
            errors.push((path.map(Into::into).to_vec(), message));
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
    let config = Config::read_partial(path)?;
    let prepared = prepare(runtime, &config).await?;
    Ok((config, prepared))
}

/// Result of reading a source once.
#[derive(Debug)]
pub struct SourceCheck {
    /// Name of the source.
    pub name: String,
    /// Name or path of the plugin.
    pub plugin: String,
    /// Duration of the read.
    pub took: Duration,
    /// Size of the value in bytes, or the error.
    pub answer: Result<usize, String>,
}

/// Reads each source once, up to 16 at the same time. `limit` is the timeout of each read.
pub async fn check_online(sources: &[Prepared], limit: Duration) -> Vec<SourceCheck> {
    let mut checks = BTreeMap::new();
    let mut running = JoinSet::new();
    let mut waiting = sources.iter().cloned().enumerate();
    loop {
        while running.len() < MAX_CONCURRENT_CHECKS
            && let Some((index, source)) = waiting.next()
        {
            running.spawn(async move { (index, read_once(source, limit).await) });
        }
        match running.join_next().await {
            Some(Ok((index, check))) => {
                checks.insert(index, check);
            }
            Some(Err(_)) => {}
            None => return checks.into_values().collect(),
        }
    }
}

async fn read_once(source: Prepared, limit: Duration) -> SourceCheck {
    let start = Instant::now();
    let read = async {
        let provider = source.builder.origin().map_err(|error| error.to_string())?;
        match provider.reader().read(None).await {
            Ok(Outcome::Changed(value)) => Ok(value.content.len()),
            Ok(Outcome::Absent) => Err("the source has no value".into()),
            Ok(Outcome::Unchanged) => {
                Err("the plugin reported `unchanged` for the first read".into())
            }
            Err(failure) => Err(failure.to_string()),
        }
    };
    let answer = timeout(limit, read).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no response within {limit:?}")));
    let SourceConfig { name, plugin, .. } = source.config;
    SourceCheck { name: SourceName::to_string(&name), plugin, took: start.elapsed(), answer }
}
