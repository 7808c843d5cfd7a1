//! Difference between two configurations: what a reload changes.
//!
//! `sink_set.rs` compares the sinks.

use crate::{
    config::{Config, GroupConfig, SourceConfig},
    prepare::Prepared,
};
use reloader_engine::types::SourceName;
use std::collections::BTreeSet;

/// Change of a source, classified by its consequence for the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceChange {
    /// No change, or changed settings that concern only the host: sinks, `required`, `store`, `readable`. The provider
    /// keeps running.
    HostSettings,
    /// Changed intervals or validation. A new provider replaces the old one without a trial call.
    ProviderSettings,
    /// Changed plugin, or changed settings of the plugin. A new provider replaces the old one after a trial call.
    PluginInput,
}

/// Returns how a source differs between two configurations.
pub(crate) fn source_change(old: &Prepared, new: &Prepared) -> SourceChange {
    let [old_plugin, old_validator] = old.plugin_digests();
    let [new_plugin, new_validator] = new.plugin_digests();
    let files = ChangedFiles {
        plugin: old_plugin != new_plugin,
        validator: old_validator != new_validator,
    };
    settings_change(&old.config, &new.config, files)
}

/// Components of a source whose digests differ between two configurations.
#[derive(Debug, Clone, Copy, Default)]
struct ChangedFiles {
    plugin: bool,
    validator: bool,
}

fn settings_change(old: &SourceConfig, new: &SourceConfig, files: ChangedFiles) -> SourceChange {
    let mut config = old.clone().with_host_settings_of(new);
    if config == *new && !files.plugin && !files.validator {
        return SourceChange::HostSettings;
    }
    config.interval = new.interval;
    config.reconcile = new.reconcile;
    config.stale_after = new.stale_after;
    config.validate.clone_from(&new.validate);
    if config == *new && !files.plugin {
        SourceChange::ProviderSettings
    } else {
        SourceChange::PluginInput
    }
}

/// Returns whether both configurations have the same sources and groups, and store the values of the same sources.
pub(crate) fn has_same_stored_values(old: &Config, new: &Config) -> bool {
    fn sources(config: &Config) -> impl Iterator<Item = (&SourceName, bool)> {
        config.sources.iter().map(|source| (&source.name, source.store))
    }
    fn groups(config: &Config) -> impl Iterator<Item = &String> {
        config.groups.iter().map(|group| &group.name)
    }
    sources(old).eq(sources(new)) && groups(old).eq(groups(new))
}

/// Returns whether the inputs of the sinks of a group have changed: the list of sources, the debounce settings,
/// or a source that is in `restarted`. `new` is `None` for a group that was removed.
pub(crate) fn has_other_inputs(
    old: &GroupConfig,
    new: Option<&GroupConfig>,
    restarted: &BTreeSet<SourceName>,
) -> bool {
    let is_same = |new: &GroupConfig| {
        old.sources == new.sources && old.optional == new.optional && old.wait == new.wait
    };
    !new.is_some_and(is_same) || old.sources.iter().any(|name| restarted.contains(name))
}

/// Returns the tables whose changed settings take effect only at the next start. `initial` is the
/// configuration at the start: a change back to it needs no restart.
pub(crate) fn deferred_tables(initial: &Config, old: &Config, new: &Config) -> Vec<&'static str> {
    let differs =
        |is_other: fn(&Config, &Config) -> bool| is_other(new, old) && is_other(new, initial);
    let mut tables = Vec::new();
    if differs(|one, other| one.state != other.state) {
        tables.push("state");
    }
    if differs(|one, other| one.command != other.command) {
        tables.push("command");
    }
    if differs(|one, other| one.listen.needs_restart(&other.listen)) {
        tables.push("listen");
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(rest: &str) -> Config {
        let text = format!("[[source]]\nname = 'a'\nplugin = 'file'\nconfig.path = 'a'\n{rest}");
        Config::parse(Path::new("reloader.toml"), &text).unwrap()
    }

    #[test]
    fn source_change_depends_on_settings_and_files() {
        let change = |rest: &str, files| {
            let (old, new) = (config(""), config(rest));
            settings_change(&old.sources[0], &new.sources[0], files)
        };
        let none = ChangedFiles::default();
        assert_eq!(change("", none), SourceChange::HostSettings);
        assert_eq!(change("store = false\nrequired = false\n", none), SourceChange::HostSettings);
        assert_eq!(change("interval = '7s'\n", none), SourceChange::ProviderSettings);
        assert_eq!(change("validate.not-empty = true\n", none), SourceChange::ProviderSettings);
        assert_eq!(change("config.other = 1\n", none), SourceChange::PluginInput);
        let validator = ChangedFiles { validator: true, ..none };
        assert_eq!(change("", validator), SourceChange::ProviderSettings);
        let plugin = ChangedFiles { plugin: true, ..none };
        assert_eq!(change("interval = '7s'\n", plugin), SourceChange::PluginInput);
    }

    #[test]
    fn change_back_to_initial_table_is_not_deferred() {
        let initial = config("");
        let changed = config("[state]\nhistory = 1\n[listen]\nconnections = 7\n");
        assert_eq!(deferred_tables(&initial, &initial, &changed), ["state", "listen"]);
        assert_eq!(deferred_tables(&initial, &changed, &changed), [""; 0], "already reported");
        assert_eq!(deferred_tables(&initial, &changed, &initial), [""; 0]);
    }

    #[test]
    fn group_inputs_are_sources_and_debounce_settings() {
        let group =
            |rest: &str| config(&format!("[[group]]\nname = 'g'\nsources = ['a']\n{rest}")).groups;
        let (old, none) = (group(""), BTreeSet::new());
        let restarted = BTreeSet::from([SourceName::new("a")]);
        assert!(!has_other_inputs(&old[0], old.first(), &none));
        assert!(has_other_inputs(&old[0], old.first(), &restarted));
        let wait = group("wait = { min = '1s', max = '2s' }\n");
        assert!(has_other_inputs(&old[0], wait.first(), &none));
        assert!(has_other_inputs(&old[0], None, &none), "removed");
        let sink = "[[group.sink]]\ntype = 'stdout'\n";
        assert!(!has_other_inputs(&old[0], group(sink).first(), &none), "sinks are no inputs");
    }
}
