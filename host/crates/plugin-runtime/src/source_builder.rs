//! Builder of a source from a plugin.

use crate::{
    configure_error::ConfigureError, configured_plugin::SETTINGS_POOL, limits::Limits,
    plugin_host::Plugin, plugin_provider::PluginProvider, resolved_settings::OperatorSettings,
};
use reloader_engine::{
    Settings,
    types::{Snapshot, SourceName, Strategy},
};
use reloader_net::{EgressSettings, TlsSettings};
use reloader_policy::{AddressRange, Credential, Grant, Permission};
use reloader_source::{
    metrics::Counters,
    provider::Provider,
    running_source::{RestoredState, Source, SourceParts},
    validator::{FnValidator, Validator, ValidatorChain},
};
use reloader_util::blocking_pool::BlockingPool;
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};

/// Builder of a source. [`start`](Self::start) starts the source.
#[derive(Clone)]
#[must_use = "a source does nothing before it is started"]
pub struct SourceBuilder {
    plugin: Plugin,
    name: SourceName,
    settings: OperatorSettings,
    limits: Arc<Limits>,
    strategy: Option<Strategy>,
    interval: Duration,
    reconcile: Option<Duration>,
    stale_after: Option<Duration>,
    force_reload: bool,
    validators: Vec<Arc<dyn Validator>>,
    reach: EgressSettings,
    counters: Arc<Counters>,
}

impl Plugin {
    /// Returns a builder of a source with this name.
    pub fn source(&self, name: &str) -> SourceBuilder {
        SourceBuilder {
            plugin: self.clone(),
            name: SourceName::new(name),
            settings: OperatorSettings::default(),
            limits: self.shared_limits(),
            strategy: None,
            interval: Duration::from_secs(10),
            reconcile: None,
            stale_after: None,
            force_reload: false,
            validators: Vec::new(),
            reach: EgressSettings::default(),
            counters: Arc::default(),
        }
    }

    /// Returns the default strategy of the plugin's sources: hybrid if the plugin can watch, otherwise polling.
    #[must_use]
    pub fn default_strategy(&self) -> Strategy {
        if self.world().can_watch { Strategy::Hybrid } else { Strategy::Polling }
    }
}

impl SourceBuilder {
    /// Sets one of the plugin's settings. `${env:NAME}` and `${file:PATH}` in a string are references to secrets.
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.settings.settings.insert(name.into(), value.into());
        self
    }

    /// Adds settings that the plugin receives. A setting replaces an earlier one of the same name.
    pub fn settings(mut self, settings: Map<String, Value>) -> Self {
        self.settings.settings.extend(settings);
        self
    }

    /// Adds a grant to those that the settings imply.
    pub fn allow(mut self, grant: Grant) -> Self {
        self.settings.permission.grants.insert(grant);
        self
    }

    /// Sets whether the settings imply grants. Default: true. If false, each grant must be
    /// [added](Self::allow).
    pub fn implied_grants(mut self, implied: bool) -> Self {
        self.settings.permission.implied = implied;
        self
    }

    /// Sets the grants, and whether the settings imply grants. Replaces grants that were added before.
    pub fn permission(mut self, permission: Permission) -> Self {
        self.settings.permission = permission;
        self
    }

    /// Adds a credential to the requests to an origin. The plugin cannot read it.
    pub fn credential(mut self, credential: Credential) -> Self {
        self.settings.credentials.push(credential);
        self
    }

    /// Sets the limits of the source. Default: those with which the plugin was loaded.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// Sets the strategy. Default: [`Plugin::default_strategy`].
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// Sets the time between two polls. Default: 10 seconds.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets the time between two polls while a watch is live. These polls find changes that the watch missed. Default:
    /// 5 minutes.
    pub fn reconcile(mut self, reconcile: Duration) -> Self {
        self.reconcile = Some(reconcile);
        self
    }

    /// Sets the time without confirmation after which a value is stale. Default: three intervals, and at least 30
    /// seconds.
    pub fn stale_after(mut self, stale_after: Duration) -> Self {
        self.stale_after = Some(stale_after);
        self
    }

    /// Sets whether a value is published on each read, even if it has not changed. Default: false.
    pub fn force_reload(mut self, force_reload: bool) -> Self {
        self.force_reload = force_reload;
        self
    }

    /// Adds a validator function. A value that it rejects is not published: the last good value stays, and the log
    /// shows the reason. All validators must accept a value.
    pub fn check(
        self,
        check: impl Fn(&Snapshot) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.validate(Arc::new(FnValidator(Arc::new(check))))
    }

    /// Adds a validator. A slow validator delays only the publication of the value: the source is still read and
    /// watched. Validators run in the order in which they were added, and the first rejection ends the validation.
    pub fn validate(mut self, validator: Arc<dyn Validator>) -> Self {
        self.validators.push(validator);
        self
    }

    /// Allows host names in the settings to resolve to these non-public addresses.
    pub fn allow_address(mut self, range: AddressRange) -> Self {
        self.reach.addresses.allow(range);
        self
    }

    /// Sets the TLS settings of connections. Default: the system's trusted certificates.
    pub fn tls(mut self, tls: TlsSettings) -> Self {
        self.reach.tls = tls;
        self
    }

    /// Sets the counters in which the source records its metrics.
    pub fn counters(mut self, counters: Arc<Counters>) -> Self {
        self.counters = counters;
        self
    }

    /// Returns the maximum time between two events of a watch.
    pub(crate) fn liveness(&self) -> Duration {
        self.limits.liveness
    }

    /// Checks the settings, and returns the provider of the source without starting the source. Reads files with
    /// secrets, and blocks for five seconds at most for each of them.
    ///
    /// # Errors
    ///
    /// [`ConfigureError`] with all errors of the settings, or if the plugin does not support the strategy or is a
    /// validator.
    pub fn provider(&self) -> Result<Arc<dyn Provider>, ConfigureError> {
        if self.plugin.world().validates {
            let plugin = self.plugin.description().name.clone();
            return Err(ConfigureError::NotASource { plugin });
        }
        if self.strategy == Some(Strategy::Realtime) && !self.plugin.world().can_watch {
            let plugin = self.plugin.description().name.clone();
            return Err(ConfigureError::CannotWatch { plugin });
        }
        let (name, settings) = (self.name.clone(), self.settings.clone());
        let (limits, counters) = (Arc::clone(&self.limits), Arc::clone(&self.counters));
        let reach = self.reach.clone();
        let plugin = self.plugin.configure(name, settings, limits, reach, counters)?;
        Ok(Arc::new(PluginProvider(plugin)))
    }

    /// Like [`provider`](Self::provider), without blocking the current thread: files with secrets are read on another
    /// thread.
    ///
    /// # Errors
    ///
    /// Same as [`provider`](Self::provider), and [`ConfigureError::Unresolved`] if no thread is available.
    pub async fn provider_off_thread(&self) -> Result<Arc<dyn Provider>, ConfigureError> {
        let builder = self.clone();
        run_on(&SETTINGS_POOL, move || builder.provider()).await
    }

    /// Like [`parts`](Self::parts), without blocking the current thread: files with secrets are read on another thread.
    ///
    /// # Errors
    ///
    /// Same as [`provider_off_thread`](Self::provider_off_thread).
    pub async fn parts_off_thread(&self) -> Result<SourceParts, ConfigureError> {
        let builder = self.clone();
        run_on(&SETTINGS_POOL, move || builder.parts()).await
    }

    /// Returns the provider, the engine settings, the validators and the counters of the source, without starting the
    /// source.
    ///
    /// # Errors
    ///
    /// Same as [`provider`](Self::provider).
    pub fn parts(&self) -> Result<SourceParts, ConfigureError> {
        let provider = self.provider()?;
        let strategy = self.strategy.unwrap_or_else(|| self.plugin.default_strategy());
        let mut settings = Settings::new(strategy, self.interval);
        settings.liveness = self.liveness();
        settings.timeout = self.limits.two_calls_timeout();
        settings.timeout_limit = Some("call-timeout");
        settings.force_reload = self.force_reload;
        if let Some(reconcile) = self.reconcile {
            settings.reconcile = reconcile;
        }
        if let Some(stale_after) = self.stale_after {
            settings.stale_after = stale_after;
        }
        let chain = || Arc::new(ValidatorChain(self.validators.clone())) as _;
        let validator = (!self.validators.is_empty()).then(chain);
        Ok(SourceParts { provider, settings, validator, metrics: Arc::clone(&self.counters) })
    }

    /// Starts the source on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// Same as [`provider`](Self::provider).
    pub fn start(self) -> Result<Source, ConfigureError> {
        self.start_after(RestoredState::default())
    }

    /// Like [`start`](Self::start), without blocking the current thread: files with secrets are read on another thread.
    ///
    /// # Errors
    ///
    /// Same as [`provider_off_thread`](Self::provider_off_thread).
    pub async fn start_off_thread(self) -> Result<Source, ConfigureError> {
        let parts = self.parts_off_thread().await?;
        Ok(Source::start_with(self.name, parts, RestoredState::default()))
    }

    /// Starts the source with its state from before a restart of the host.
    ///
    /// # Errors
    ///
    /// Same as [`provider`](Self::provider).
    pub fn start_after(self, restored: RestoredState) -> Result<Source, ConfigureError> {
        let parts = self.parts()?;
        Ok(Source::start_with(self.name, parts, restored))
    }
}

/// Runs `resolve` on a thread of `pool`, never on the current thread.
async fn run_on<T: Send + 'static>(
    pool: &'static BlockingPool,
    resolve: impl FnOnce() -> Result<T, ConfigureError> + Send + 'static,
) -> Result<T, ConfigureError> {
    pool.spawn(resolve).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool without threads makes the resolution of settings fail.
    #[tokio::test]
    async fn settings_without_thread_are_an_error() {
        static NO_THREADS: BlockingPool = BlockingPool::new("test", 0);
        let resolved = run_on(&NO_THREADS, || -> Result<(), _> { panic!("on this thread") }).await;
        let error = resolved.expect_err("no thread is available").to_string();
        let expected =
            "the settings cannot be resolved: the system cannot start a thread for the pool `test`";
        assert!(error.starts_with(expected), "{error}");
    }

    #[tokio::test]
    async fn panic_while_settings_are_resolved_is_an_error() {
        static POOL: BlockingPool = BlockingPool::new("test", 1);
        let resolved = run_on(&POOL, || -> Result<(), _> { panic!("by the test") }).await;
        let error = resolved.expect_err("the operation panicked").to_string();
        assert!(error.contains("the operation panicked: by the test; hint: "), "{error}");
    }
}
