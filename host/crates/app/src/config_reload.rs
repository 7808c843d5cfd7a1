//! Reload of the configuration and of plugins: reads what has changed, and reconciles the sources and groups with it.
//!
//! Reloads run one at a time. A new reload of the configuration file cancels the running reload.

use crate::{
    config::{Config, ConfigError, GroupConfig, SourceConfig},
    config_diff,
    config_read_pool::CONFIG_POOL,
    host_phase::ReloadingGuard,
    managed_source::{ManagedSource, RETRY_INTERVAL},
    prepare::{Plugins, Prepared, prepare_where},
    reconciler::{Reconciler, SourceStartError},
};
use reloader_engine::types::SourceName;
use reloader_fs_watch::FileAccessError;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::timeout;
use tracing::{error, info, warn};

/// Time limit for reading the configuration file and the files that a veto checks, such as TLS files of the API server.
const RELOAD_READ_TIMEOUT: Duration = Duration::from_secs(30);

impl Reconciler {
    /// Reads the configuration file and applies it. If the file is invalid, the configuration in effect stays. If an
    /// earlier reload put this configuration into effect and was then cancelled, completes the earlier reload.
    pub(crate) async fn reload(self: &Arc<Self>) {
        let _guard = ReloadingGuard::new(&self.phase);
        let old = self.config();
        match self.read_changes(&old).await {
            Ok((config, prepared)) => self.apply_config(&old, config, prepared).await,
            Err(error) => {
                self.reject_config(&error);
                self.finish_cancelled_reload().await;
            }
        }
    }

    /// Reads the configuration file again, and prepares the sources that differ from the running ones.
    async fn read_changes(
        &self,
        old: &Arc<Config>,
    ) -> Result<(Config, Vec<Prepared>), ConfigError> {
        let (current, vetoes) = (Arc::clone(old), self.vetoes());
        let read = CONFIG_POOL.spawn(move || {
            let config = Config::read_again(&current)?;
            let invalid = vetoes.iter().flat_map(|veto| veto.invalid_settings(&config));
            let invalid: Vec<_> = invalid.collect();
            if invalid.is_empty() { Ok(config) } else { Err(config.error_with(invalid)) }
        });
        // The read of the configuration file has its own deadline. The file reads of the vetoes have only this timeout.
        let config = match timeout(RELOAD_READ_TIMEOUT, read).await {
            Ok(Ok(config)) => config?,
            Ok(Err(error)) => return Err(ConfigError::unreadable(old.path.clone(), &error)),
            Err(_) => {
                let error = FileAccessError::NoAnswer(RELOAD_READ_TIMEOUT);
                return Err(ConfigError::unreadable(old.path.clone(), &error));
            }
        };
        let plugins = Plugins::new(&self.runtime);
        let changed = self.changed_sources(&plugins, &config).await;
        let old_groups: HashMap<_, _> =
            old.groups.iter().map(|group| (group.name.as_str(), group)).collect();
        let is_changed_group =
            |group: &GroupConfig| old_groups.get(group.name.as_str()) != Some(&group);
        let is_changed = |index: usize| changed.contains(&index);
        let prepared = prepare_where(&plugins, &config, &is_changed, is_changed_group).await?;
        Ok((config, prepared))
    }

    /// Puts a configuration into effect: makes the running sources and sinks equal to it.
    async fn apply_config(self: &Arc<Self>, old: &Config, config: Config, prepared: Vec<Prepared>) {
        self.warn_of_deferred_changes(old, &config);
        let config = Arc::new(config);
        self.is_reconciliation_pending.store(true, Ordering::Relaxed);
        self.config.send_replace(Arc::clone(&config));
        *self.config_error.lock() = None;
        if !config_diff::has_same_stored_values(old, &config) {
            self.set_stored_values(&config);
        }
        match self.set_sources(prepared).await {
            Ok(()) => self.log_reloaded(),
            Err(SourceStartError { name, error }) => {
                error!(
                    source = %name,
                    %error,
                    retry_in = ?RETRY_INTERVAL,
                    "configuration reloaded, but a source could not be started"
                );
            }
        }
    }

    /// Returns whether the running sources and groups may differ from the configuration in effect, because a reload
    /// was cancelled after its configuration took effect, or has not finished, or could not start a source.
    pub(crate) fn is_reconciliation_pending(&self) -> bool {
        self.is_reconciliation_pending.load(Ordering::Relaxed)
    }

    /// Completes a reload that was cancelled after its configuration took effect, or that could not start a source:
    /// reconciles the sources and groups with this configuration.
    async fn finish_cancelled_reload(self: &Arc<Self>) {
        if !self.is_reconciliation_pending() {
            return;
        }
        let config = self.config();
        let changed = self.changed_sources(&Plugins::new(&self.runtime), &config).await;
        let changed = changed.iter().filter_map(|index| config.sources.get(*index));
        let (prepared, unprepared) = self.prepare_again(changed).await;
        if let Err(SourceStartError { name, error }) = self.set_sources(prepared).await {
            error!(source = %name, %error, "source start failed");
        }
        // A source that could not be prepared and does not run has no failed update to retry. The pending
        // reconciliation makes the periodic retry start it.
        if unprepared.iter().any(|name| self.source(name).is_none()) {
            self.is_reconciliation_pending.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the indices of the sources that do not run, or run with other settings or plugins than in `config`.
    async fn changed_sources(&self, plugins: &Plugins<'_>, config: &Config) -> HashSet<usize> {
        let mut changed = HashSet::new();
        for (index, wanted) in config.sources.iter().enumerate() {
            let is_unchanged = match self.source(&wanted.name) {
                None => false,
                Some(source) => {
                    let running = source.prepared();
                    !source.has_ended()
                        && !source.is_update_pending()
                        && (Arc::ptr_eq(&running.config, wanted) || running.config == *wanted)
                        && plugins.are_unchanged(&running).await
                }
            };
            if !is_unchanged {
                changed.insert(index);
            }
        }
        changed
    }

    /// Logs a warning for each changed table whose settings take effect only at the next start.
    fn warn_of_deferred_changes(&self, old: &Config, new: &Config) {
        for table in config_diff::deferred_tables(&self.initial_config, old, new) {
            let settings = (table == "listen").then_some("address, connections, use of TLS");
            warn!(
                table,
                settings, "configuration change takes effect at the next start of the host"
            );
        }
    }

    fn reject_config(&self, error: &ConfigError) {
        *self.config_error.lock() = Some(error.to_string());
        error!(%error, "configuration reload failed; the running configuration stays in effect");
    }

    /// Returns why the configuration file was rejected, if the last reload failed.
    pub(crate) fn config_error(&self) -> Option<String> {
        self.config_error.lock().clone()
    }

    fn log_reloaded(&self) {
        let sources = self.sources();
        let rolled_back = sources.iter().filter(|source| source.is_rolled_back());
        let rolled_back: Vec<_> = rolled_back.map(|source| source.source.name().as_str()).collect();
        if rolled_back.is_empty() {
            info!(sources = sources.len(), "configuration reloaded");
        } else {
            let rolled_back = rolled_back.join(", ");
            warn!(failed_updates = %rolled_back, "configuration reloaded, but source updates failed");
        }
    }

    /// Updates the sources that use a plugin, after a change of the plugin's file.
    pub(crate) async fn update_plugin(self: &Arc<Self>, path: &str) {
        info!(plugin = %path, "plugin file changed");
        self.update_matching(|config, _| config.plugins().any(|plugin| plugin == path)).await;
    }

    /// Completes a reload that was cancelled or could not start a source, and retries the failed source updates.
    pub(crate) async fn retry_rolled_back(self: &Arc<Self>) {
        self.finish_cancelled_reload().await;
        self.update_matching(|_, source| source.is_rolled_back()).await;
    }

    /// Prepares the running sources that match `is_wanted` again, and updates them. A source that cannot
    /// be prepared keeps its present configuration.
    async fn update_matching(
        self: &Arc<Self>,
        is_wanted: impl Fn(&SourceConfig, &ManagedSource) -> bool,
    ) {
        let config = self.config();
        let wanted = config.sources.iter().filter(|wanted| {
            self.source(&wanted.name).is_some_and(|source| is_wanted(wanted, &source))
        });
        let (prepared, _) = self.prepare_again(wanted).await;
        if let Err(SourceStartError { name, error }) = self.apply(prepared).await {
            error!(source = %name, %error, "source start failed");
            self.is_reconciliation_pending.store(true, Ordering::Relaxed);
        }
        self.set_groups(&config.groups).await;
    }

    /// Prepares sources of the configuration in effect. Returns the prepared sources, and the names of the sources that
    /// cannot be prepared. For a running source, this is recorded as a failed update.
    async fn prepare_again(
        &self,
        all: impl Iterator<Item = &Arc<SourceConfig>>,
    ) -> (Vec<Prepared>, Vec<SourceName>) {
        let plugins = Plugins::new(&self.runtime);
        let (mut prepared, mut unprepared) = (Vec::new(), Vec::new());
        for wanted in all {
            let errors = match plugins.prepare(wanted).await {
                Ok(new) => {
                    prepared.push(new);
                    continue;
                }
                Err(errors) => errors,
            };
            let messages: Vec<_> = errors.into_iter().map(|error| error.message).collect();
            let error = messages.join("; ");
            match self.source(&wanted.name) {
                Some(running) => running.roll_back_update(error, &self.notifier),
                None => error!(source = %wanted.name, %error, "source start failed"),
            }
            unprepared.push(wanted.name.clone());
        }
        (prepared, unprepared)
    }
}
