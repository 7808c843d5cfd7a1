//! From what was written to what can be started: plugins loaded, settings checked.

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

/// A source that can be started.
#[derive(Clone)]
pub struct Prepared {
    pub(crate) config: SourceConfig,
    pub(crate) plugin: Plugin,
    pub(crate) builder: SourceBuilder,
    /// What judges its values, if a plugin does.
    validator: Option<Plugin>,
    /// What the files of the plugins were like before they were loaded.
    pub(crate) stamps: Vec<(String, Option<Stamp>)>,
}

impl Prepared {
    /// With what is the host's own affair as it is there.
    pub(crate) fn with_own_of(mut self, other: &SourceConfig) -> Self {
        self.config.sinks.clone_from(&other.sinks);
        self.config.required = other.required;
        self.config.store = other.store;
        self.config.readable = other.readable;
        self
    }

    /// Whether it is the same source: read from the same place, in the same way, by the same plugins.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.clone().with_own_of(&other.config).config == other.config
            && self.digests() == other.digests()
    }

    /// Whether at least what the plugin is given is the same.
    pub(crate) fn reads_the_same(&self, other: &Self) -> bool {
        let mut one = self.clone().with_own_of(&other.config).config;
        let SourceConfig { interval, reconcile, stale_after, validate, .. } = other.config.clone();
        (one.interval, one.reconcile, one.stale_after) = (interval, reconcile, stale_after);
        one.validate = validate;
        one == other.config && self.digests()[0] == other.digests()[0]
    }

    fn digests(&self) -> [Option<&str>; 2] {
        let plugins = [Some(&self.plugin), self.validator.as_ref()];
        plugins.map(|plugin| plugin.map(|plugin| plugin.description().digest.as_str()))
    }
}

/// Why a source cannot be started: what in its table is wrong, and why.
pub(crate) struct Wrong {
    /// The key, and those below it.
    pub(crate) at: Vec<String>,
    pub(crate) message: String,
}

impl Wrong {
    fn at(key: &str, message: impl ToString) -> Self {
        Self { at: vec![key.into()], message: message.to_string() }
    }

    /// Of the settings of a plugin, below this key: one, with dots between its levels.
    fn setting(key: &str, setting: Option<&str>, message: impl ToString) -> Self {
        let below = setting.into_iter().flat_map(|setting| setting.split('.'));
        let at = [key].into_iter().chain(below).map(Into::into).collect();
        Self { at, message: message.to_string() }
    }

    /// What is wrong with a plugin's settings, which stand below this key, or with what is beside them.
    fn with_plugin(key: &str, error: &ConfigureError) -> Vec<Self> {
        let of = |setting, message| Self::setting(key, setting, message);
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

/// Plugins that have been loaded, once for all sources.
pub(crate) struct Plugins<'a> {
    runtime: &'a PluginHost,
    loaded: Mutex<Vec<Loaded>>,
}

/// A plugin, by its name and within which limits it was loaded; or why it could not be.
type Loaded = (String, Limits, Result<Plugin, String>);

impl<'a> Plugins<'a> {
    pub(crate) fn new(runtime: &'a PluginHost) -> Self {
        Self { runtime, loaded: Mutex::default() }
    }

    async fn load(&self, name: &str, limits: &Limits) -> Result<Plugin, String> {
        let mut loaded = self.loaded.lock().await;
        if let Some((.., plugin)) =
            loaded.iter().find(|(known, within, _)| known == name && within == limits)
        {
            return plugin.clone();
        }
        let plugin = self.runtime.load_within(name, limits).await;
        let plugin = plugin.map_err(|error| error.to_string());
        loaded.push((name.into(), limits.clone(), plugin.clone()));
        plugin
    }

    /// One source, checked as far as it can be without opening it.
    pub(crate) async fn prepare(&self, config: &SourceConfig) -> Result<Prepared, Vec<Wrong>> {
        let stamps = config.plugins().map(|plugin| (plugin.to_owned(), Stamp::of_plugin(plugin)));
        let stamps = stamps.collect();
        let plugin = self.load(&config.plugin, &config.limits).await;
        let plugin = plugin.map_err(|error| vec![Wrong::at("plugin", error)])?;
        let digest = &plugin.description().digest;
        if let Some(wanted) = &config.sha256
            && wanted != digest
        {
            let message = format!("the plugin is another one: its SHA-256 is {digest}");
            return Err(vec![Wrong::at("sha256", message)]);
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
        let mut wrong = Vec::new();
        let mut validator = None;
        if let Some(settings) = &config.validate {
            match self.judge(config, settings).await {
                Ok((judge, plugin)) => {
                    builder = judge.into_iter().fold(builder, SourceBuilder::validate);
                    validator = plugin;
                }
                Err(problems) => wrong.extend(problems),
            }
        }
        if let Err(error) = builder.origin() {
            wrong.extend(Wrong::with_plugin("config", &error));
        }
        let tls = config.tls.clone();
        if let Ok(Err(error)) = spawn_blocking(move || tls.check()).await {
            wrong.push(Wrong::at("tls", error));
        }
        if wrong.is_empty() {
            Ok(Prepared { config: config.clone(), plugin, builder, validator, stamps })
        } else {
            Err(wrong)
        }
    }

    /// What judges the values of a source, and the plugin that does so among others.
    async fn judge(
        &self,
        config: &SourceConfig,
        settings: &ValidateSettings,
    ) -> Result<(Option<Arc<dyn Validator>>, Option<Plugin>), Vec<Wrong>> {
        let mut wrong: Vec<_> =
            settings.problems().into_iter().map(|problem| Wrong::at("validate", problem)).collect();
        let mut validators = PluginValidators::default();
        let mut plugin = None;
        if let Some(path) = &settings.schema {
            match self.schema_validator(path, config, settings).await {
                Ok(validator) => validators.schema = Some(validator),
                Err(error) => wrong.push(Wrong::at("validate", error)),
            }
        }
        if let Some(name) = &settings.plugin {
            match self.validator(name, config, settings).await {
                Ok((validator, its)) => (validators.plugin, plugin) = (Some(validator), Some(its)),
                Err(error) => wrong.extend(error.lines().map(|line| Wrong::at("validate", line))),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok((settings.judge(validators), plugin))
    }

    /// Creates the validator of a schema, which is read and compiled once.
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

    async fn validator(
        &self,
        name: &str,
        config: &SourceConfig,
        settings: &ValidateSettings,
    ) -> Result<(Arc<dyn Validator>, Plugin), String> {
        let plugin = self.load(name, &config.limits).await?;
        let limits = Limits { call_timeout: settings.timeout.0, ..config.limits.clone() };
        let validator = plugin.validator(config.name.as_str()).settings(settings.config.clone());
        let judge = validator.limits(limits).build().map_err(|error| error.to_string())?;
        Ok((judge, plugin))
    }
}

/// Which sinks can never work, by their place, and why.
fn unusable(of: &str, sinks: &[SinkSettings]) -> Vec<(usize, String)> {
    let mut names = BTreeSet::new();
    let mut unusable = Vec::new();
    for (index, sink) in sinks.iter().enumerate() {
        if let Some(name) = sink.name().filter(|name| !names.insert(*name)) {
            unusable.push((index, format!("there is another sink named `{name}`")));
        }
        if let Err(error) = sink.build(of) {
            unusable.push((index, error.to_string()));
        }
    }
    unusable
}

/// All sources of a configuration, ready to be started.
///
/// # Errors
///
/// All that is wrong with it, and where.
pub async fn prepare(runtime: &PluginHost, config: &Config) -> Result<Vec<Prepared>, ConfigError> {
    let plugins = Plugins::new(runtime);
    let mut prepared = Vec::with_capacity(config.sources.len());
    let mut mistakes = Vec::new();
    for (index, source) in config.sources.iter().enumerate() {
        match plugins.prepare(source).await {
            Ok(source) => prepared.push(source),
            Err(wrong) => mistakes.extend(wrong.into_iter().map(|Wrong { at, message }| {
                (config.place(index).into_iter().chain(at).collect(), message)
            })),
        }
    }
    for (index, source) in config.sources.iter().enumerate().filter(|_| config.is_whole()) {
        for (sink, message) in unusable(source.name.as_str(), &source.sinks) {
            let at = config.place(index).into_iter().chain(["sink".into(), sink.to_string()]);
            mistakes.push((at.collect(), message));
        }
    }
    for (index, group) in config.groups.iter().enumerate().filter(|_| config.is_whole()) {
        for (sink, message) in unusable(&group.name, &group.sinks) {
            let at = ["group", &index.to_string(), "sink", &sink.to_string()];
            mistakes.push((at.map(Into::into).to_vec(), message));
        }
    }
    if mistakes.is_empty() && config.is_whole() {
        Ok(prepared)
    } else {
        Err(config.wrong(mistakes))
    }
}

/// All that is wrong with a file and its sources; or what it says, ready to be started.
///
/// # Errors
///
/// All that is wrong with it, and where.
pub async fn check(
    runtime: &PluginHost,
    path: &Path,
) -> Result<(Config, Vec<Prepared>), ConfigError> {
    let config = Config::read_sound(path)?;
    let prepared = prepare(runtime, &config).await?;
    Ok((config, prepared))
}

/// What came of opening a source once.
#[derive(Debug)]
pub struct SourceCheck {
    /// Its name.
    pub name: String,
    /// Its plugin.
    pub plugin: String,
    /// How long it took.
    pub took: Duration,
    /// The size of its value, in bytes; or why there is none.
    pub answer: Result<usize, String>,
}

/// So many sources are opened at a time.
const AT_ONCE: usize = 16;

/// Opens each source once, some at a time.
pub async fn check_online(sources: &[Prepared], limit: Duration) -> Vec<SourceCheck> {
    let mut checks = BTreeMap::new();
    let mut running = JoinSet::new();
    let mut waiting = sources.iter().cloned().enumerate();
    loop {
        while running.len() < AT_ONCE
            && let Some((index, source)) = waiting.next()
        {
            running.spawn(async move { (index, try_out(source, limit).await) });
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

async fn try_out(source: Prepared, limit: Duration) -> SourceCheck {
    let start = Instant::now();
    let read = async {
        let origin = source.builder.origin().map_err(|error| error.to_string())?;
        match origin.reader().read(None).await {
            Ok(Outcome::Changed(value)) => Ok(value.content.len()),
            Ok(Outcome::Absent) => Err("there is no value".into()),
            Ok(Outcome::Unchanged) => Err("the plugin gave no value".into()),
            Err(failure) => Err(failure.to_string()),
        }
    };
    let answer = timeout(limit, read).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("it did not answer within {limit:?}")));
    let SourceConfig { name, plugin, .. } = source.config;
    SourceCheck { name: SourceName::to_string(&name), plugin, took: start.elapsed(), answer }
}
