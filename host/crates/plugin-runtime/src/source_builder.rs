//! From a plugin to a running source, step by step.

use crate::{ConfigureError, Limits, Plugin, source_context::Written};
use reloader_engine::{
    Settings,
    types::{Snapshot, SourceName, Strategy},
};
use reloader_net::{Reach, TlsSettings};
use reloader_policy::{AddressRange, Credential, Grant, Permission};
use reloader_source::{
    handle::{RestoredState, Source, SourceParts},
    metrics::Counters,
    provider::Provider,
    validator::{FnValidator, Validator, ValidatorChain},
};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};

/// A source in the making. [`start`](Self::start) makes it one.
#[derive(Clone)]
#[must_use = "a source does nothing before it is started"]
pub struct SourceBuilder {
    plugin: Plugin,
    name: SourceName,
    written: Written,
    limits: Arc<Limits>,
    strategy: Option<Strategy>,
    interval: Duration,
    reconcile: Option<Duration>,
    stale_after: Option<Duration>,
    force_reload: bool,
    judges: Vec<Arc<dyn Validator>>,
    reach: Reach,
    counters: Arc<Counters>,
}

impl Plugin {
    /// A source of this plugin, under a name of one's own choice.
    pub fn source(&self, name: &str) -> SourceBuilder {
        SourceBuilder {
            plugin: self.clone(),
            name: SourceName::new(name),
            written: Written::default(),
            limits: self.shared_limits(),
            strategy: None,
            interval: Duration::from_secs(10),
            reconcile: None,
            stale_after: None,
            force_reload: false,
            judges: Vec::new(),
            reach: Reach::default(),
            counters: Arc::default(),
        }
    }

    /// What a source of this plugin does unless told otherwise: hybrid if the plugin can watch.
    #[must_use]
    pub fn default_strategy(&self) -> Strategy {
        if self.world().can_watch { Strategy::Hybrid } else { Strategy::Polling }
    }
}

/// What the two calls of a fetch may take besides what each is given.
pub(crate) const CALLS: Duration = Duration::from_secs(1);

impl SourceBuilder {
    /// Sets one of the plugin's settings. In a text `${env:NAME}` and `${file:PATH}` stand for secrets.
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.written.settings.insert(name.into(), value.into());
        self
    }

    /// Sets several of the plugin's settings.
    pub fn settings(mut self, settings: Map<String, Value>) -> Self {
        self.written.settings.extend(settings);
        self
    }

    /// Grants something besides what the settings name.
    pub fn allow(mut self, grant: Grant) -> Self {
        self.written.permission.grants.insert(grant);
        self
    }

    /// Whether what stands in the settings is granted, as it is by default. If not, everything must be
    /// [allowed](Self::allow).
    pub fn implied_grants(mut self, implied: bool) -> Self {
        self.written.permission.implied = implied;
        self
    }

    /// All that is granted, in place of what was before.
    pub fn permission(mut self, permission: Permission) -> Self {
        self.written.permission = permission;
        self
    }

    /// Adds a credential to the requests to an origin. The plugin does not get to see it.
    pub fn credential(mut self, credential: Credential) -> Self {
        self.written.credentials.push(credential);
        self
    }

    /// How much it may use; by default as much as all sources of its [`PluginHost`](crate::PluginHost).
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// How it is kept up to date; by default [`Plugin::default_strategy`].
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// Time between two polls; 10 seconds by default.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Time between two polls while a watch works: a safety net; 5 minutes by default.
    pub fn reconcile(mut self, reconcile: Duration) -> Self {
        self.reconcile = Some(reconcile);
        self
    }

    /// When a value that its source does not stand for any more is stale; by default after three
    /// intervals, and at least 30 seconds.
    pub fn stale_after(mut self, stale_after: Duration) -> Self {
        self.stale_after = Some(stale_after);
        self
    }

    /// Publishes what is read even when it has not changed.
    pub fn force_reload(mut self, force_reload: bool) -> Self {
        self.force_reload = force_reload;
        self
    }

    /// Lets a value through only if this says so; otherwise the last good one stays, and the log has
    /// the reason. Of several, all have to.
    pub fn check(
        self,
        check: impl Fn(&Snapshot) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.validate(Arc::new(FnValidator(Arc::new(check))))
    }

    /// The same, with what may take its time, without holding up anything but the value. It is asked
    /// after those that were named before it have let the value through.
    pub fn validate(mut self, judge: Arc<dyn Validator>) -> Self {
        self.judges.push(judge);
        self
    }

    /// Lets the names in the settings stand for addresses that are not public.
    pub fn allow_address(mut self, range: AddressRange) -> Self {
        self.reach.addresses.allow(range);
        self
    }

    /// How connections by TLS are secured; by default as this machine does it.
    pub fn tls(mut self, tls: TlsSettings) -> Self {
        self.reach.tls = tls;
        self
    }

    /// Where it is counted what happens to the source.
    pub fn counters(mut self, counters: Arc<Counters>) -> Self {
        self.counters = counters;
        self
    }

    /// A watch says something at least this often.
    pub(crate) fn liveness(&self) -> Duration {
        self.limits.liveness
    }

    /// Checks the settings, and gives what the source will read, without starting it.
    ///
    /// # Errors
    ///
    /// [`ConfigureError`]: everything that is wrong with the settings, or a strategy that the plugin
    /// cannot follow.
    pub fn origin(&self) -> Result<Arc<dyn Provider>, ConfigureError> {
        if self.plugin.world().validates {
            let plugin = self.plugin.description().name.clone();
            return Err(ConfigureError::NotASource { plugin });
        }
        if self.strategy == Some(Strategy::Realtime) && !self.plugin.world().can_watch {
            let plugin = self.plugin.description().name.clone();
            return Err(ConfigureError::CannotWatch { plugin });
        }
        let (name, written) = (self.name.clone(), self.written.clone());
        let (limits, counters) = (Arc::clone(&self.limits), Arc::clone(&self.counters));
        let origin = self.plugin.origin(name, written, limits, self.reach.clone(), counters)?;
        Ok(Arc::new(origin))
    }

    /// What the source is made of, without starting it.
    ///
    /// # Errors
    ///
    /// As [`origin`](Self::origin).
    pub fn make(&self) -> Result<SourceParts, ConfigureError> {
        let origin = self.origin()?;
        let strategy = self.strategy.unwrap_or_else(|| self.plugin.default_strategy());
        let mut settings = Settings::new(strategy, self.interval);
        settings.liveness = self.liveness();
        // A fetch may be two calls, and each has its limit; this is for what has none.
        settings.timeout = self.limits.call_timeout.saturating_mul(2).saturating_add(CALLS);
        settings.timeout_limit = Some("call-timeout");
        settings.force_reload = self.force_reload;
        if let Some(reconcile) = self.reconcile {
            settings.reconcile = reconcile;
        }
        if let Some(stale_after) = self.stale_after {
            settings.stale_after = stale_after;
        }
        let judge =
            (!self.judges.is_empty()).then(|| Arc::new(ValidatorChain(self.judges.clone())) as _);
        Ok(SourceParts { origin, settings, judge, counters: Arc::clone(&self.counters) })
    }

    /// Starts the source, on the present tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`origin`](Self::origin).
    pub fn start(self) -> Result<Source, ConfigureError> {
        self.start_after(RestoredState::default())
    }

    /// The same, with what there was before a restart.
    ///
    /// # Errors
    ///
    /// As [`origin`](Self::origin).
    pub fn start_after(self, past: RestoredState) -> Result<Source, ConfigureError> {
        let making = self.make()?;
        Ok(Source::start_with(self.name, making, past))
    }
}
