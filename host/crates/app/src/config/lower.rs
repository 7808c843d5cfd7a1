//! Lowering: converts the raw tables of a document to the types of a configuration, and collects all
//! errors.

use super::{
    conflicts::conflicts,
    deserialize_with_recovery::deserialize_with_recovery,
    diagnostics::Diagnostic,
    listen_table::ListenTable,
    lowered_config::{GroupConfig, SourceConfig},
    raw::{self, Amount, LogTable, SourceDefaults, StateTable},
    spanned_toml::{Document, child_pointer},
    unknown_name::unknown_name,
};
use reloader_delivery::{SinkSettings, process::SupervisorSettings};
use reloader_engine::types::SourceName;
use reloader_net::TlsSettings;
use reloader_plugin_runtime::Limits;
use reloader_policy::{
    AddressRange, AddressRangeError, Credential, Grant, GrantSyntaxError, Permission,
};
use reloader_util::units::Time;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// Names of the tables of a configuration file.
const TABLES: [&str; 7] = ["source", "group", "defaults", "state", "log", "listen", "command"];
/// Keys of a table `[[source]]` that are not allowed in `[defaults]`: the fields of [`raw::Source`].
const SOURCE_KEYS: [&str; 7] =
    ["name", "plugin", "sha256", "config", "grants", "credentials", "validate"];
/// Keys that are allowed in `[[source]]` and in `[defaults]`: the fields of [`SourceDefaults`].
const DEFAULTS_KEYS: [&str; 10] = [
    "strategy",
    "interval",
    "reconcile",
    "stale-after",
    "required",
    "store",
    "readable",
    "limits",
    "tls",
    "allow-address",
];
/// Maximum length of the name of a source or group, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// Tables of a configuration file, converted from their written form to typed settings with defaults.
#[derive(Default)]
pub(crate) struct LoweredTables {
    /// Valid sources, each with its index in the file.
    pub(crate) sources: Vec<(usize, Arc<SourceConfig>)>,
    pub(crate) groups: Vec<GroupConfig>,
    pub(crate) state: StateTable,
    pub(crate) log: LogTable,
    pub(crate) listen: ListenTable,
    pub(crate) command: Option<SupervisorSettings>,
}

/// Document that is being lowered, and the errors that were found.
pub(crate) struct Lowering<'a> {
    document: &'a Document,
    /// Sources of the previous configuration whose tables are unchanged in `document`, by their index in it.
    unchanged: HashMap<usize, Arc<SourceConfig>>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Lowering<'a> {
    /// Lowers a document. Returns its valid parts and all errors. `unchanged` contains the sources that are taken
    /// from the previous configuration, by their index in the file.
    pub(crate) fn lower(
        document: &'a Document,
        unchanged: HashMap<usize, Arc<SourceConfig>>,
    ) -> (LoweredTables, Vec<Diagnostic>) {
        let mut lowering = Self { document, unchanged, diagnostics: Vec::new() };
        let tables = lowering.tables().unwrap_or_default();
        (tables, lowering.diagnostics)
    }

    fn tables(&mut self) -> Option<LoweredTables> {
        let names: Vec<_> = self.document.value.as_object()?.keys().cloned().collect();
        for name in names.iter().filter(|name| !TABLES.contains(&name.as_str())) {
            self.error_at_key(&child_pointer("", name), unknown_name("table", name, &TABLES));
        }
        let defaults = self.table::<SourceDefaults>("/defaults");
        let state = self.table("/state");
        let log = self.table("/log");
        let listen: Option<ListenTable> = self.table("/listen");
        let command = match self.document.at("/command") {
            Value::Null => None,
            value => self.typed("/command", value.clone()),
        };
        let defaults = defaults.unwrap_or_default();
        let sources = self.list("/source", |this, at, index| match this.unchanged.remove(&index) {
            Some(unchanged) => Some(unchanged),
            None => this.source(at, &defaults).map(Arc::new),
        });
        let mut groups = without_indices(self.list("/group", |this, at, _| this.group(at)));
        let optional = sources.iter().filter(|(_, source)| !source.required);
        let optional: BTreeSet<_> = optional.map(|(_, source)| &source.name).collect();
        for group in &mut groups {
            let members = group.sources.iter().filter(|name| optional.contains(name));
            group.optional = members.cloned().collect();
        }
        if matches!(self.document.at("/source"), Value::Null) {
            // A file may be empty for a moment while another program writes it. Without this error, a reload would
            // stop all sources.
            self.error("", "no `[[source]]` table: at least one source is required");
        }
        self.check_unique_names();
        self.check_group_members(&sources);
        // `conflicts` locates groups and sinks by their position in these lists, which omit invalid tables. Without
        // errors, the position is the index in the file.
        if self.diagnostics.is_empty() {
            for (at, message) in conflicts(&sources, &groups) {
                self.error(&at, message);
            }
        }
        let mut listen = listen.unwrap_or_default();
        let known = self.texts("source", "name");
        let known: Vec<_> = known.iter().map(|(_, name)| *name).collect();
        for (at, message) in listen.errors(&known) {
            self.error(&format!("/listen{at}"), message);
        }
        listen.sort_token_sources();
        let (state, log) = (state.unwrap_or_default(), log.unwrap_or_default());
        Some(LoweredTables { sources, groups, state, log, listen, command })
    }

    /// Adds an error whose position is the value at the JSON pointer `at`.
    fn error<T: ToString>(&mut self, at: &str, message: T) {
        let span = self.document.value_span(at);
        self.diagnostics.push(Diagnostic { span, message: message.to_string() });
    }

    /// Adds an error whose position is the key at the JSON pointer `at`.
    fn error_at_key(&mut self, at: &str, message: String) {
        self.diagnostics.push(Diagnostic { span: self.document.key_span(at), message });
    }

    /// Deserialises `value`, which is at the JSON pointer `at`.
    fn typed<T: DeserializeOwned>(&mut self, at: &str, value: Value) -> Option<T> {
        deserialize_with_recovery(self.document, at, value, &mut self.diagnostics)
    }

    /// Deserialises an optional table. A missing table has its default settings.
    fn table<T: DeserializeOwned + Default>(&mut self, at: &str) -> Option<T> {
        match self.document.at(at) {
            Value::Null => Some(T::default()),
            value => self.typed(at, value.clone()),
        }
    }

    /// Lowers a list of tables. Returns the valid tables with their index. `table` lowers one table, given its JSON
    /// pointer and its index.
    fn list<T>(
        &mut self,
        at: &str,
        mut table: impl FnMut(&mut Self, &str, usize) -> Option<T>,
    ) -> Vec<(usize, T)> {
        match self.document.at(at) {
            Value::Null => Vec::new(),
            Value::Array(items) => {
                let items = 0..items.len();
                let lower =
                    |index| table(self, &child_pointer(at, index), index).map(|item| (index, item));
                items.filter_map(lower).collect()
            }
            _ => {
                let name = at.rsplit('/').next().unwrap_or_default();
                let message = format!("`{name}` must be a list of tables: write `[[{name}]]`");
                self.error_at_key(at, message);
                Vec::new()
            }
        }
    }

    fn source(&mut self, at: &str, defaults: &SourceDefaults) -> Option<SourceConfig> {
        let Value::Object(members) = self.document.at(at).clone() else {
            self.error(at, "expected a table");
            return None;
        };
        // The keys are deserialised in three parts: keys that only a source has, keys that the table
        // `[defaults]` also has, and sinks.
        let (mut own, mut with_defaults) = (Map::new(), Map::new());
        for (name, value) in members {
            if DEFAULTS_KEYS.contains(&name.as_str()) {
                with_defaults.insert(name, value);
            } else if SOURCE_KEYS.contains(&name.as_str()) {
                own.insert(name, value);
            } else if name != "sink" {
                let all = [&SOURCE_KEYS[..], &DEFAULTS_KEYS, &["sink"]].concat();
                self.error_at_key(&child_pointer(at, &name), unknown_name("key", &name, &all));
            }
        }
        let own: Option<raw::Source> = self.typed(at, Value::Object(own));
        let with_defaults: Option<SourceDefaults> = self.typed(at, Value::Object(with_defaults));
        let sinks = self.sinks(at);
        let (mut own, settings) = (own?, with_defaults?);
        let name = self.name(at, &own.name)?;
        let is_digest =
            |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if own.sha256.take_if(|text| !is_digest(text)).is_some() {
            self.error(&child_pointer(at, "sha256"), "expected 64 hexadecimal digits");
        }
        let permission = self.permission(at, &own.grants);
        let credentials = self.credentials(at, &own.credentials);
        let limits = self.limits(at, defaults, &settings);
        let addresses = match &settings.allow_address {
            Some(own) => self.addresses(&child_pointer(at, "allow-address"), own),
            None => {
                let all = defaults.allow_address.clone().unwrap_or_default();
                self.addresses("/defaults/allow-address", &all)
            }
        };
        let tls = settings.tls.or_else(|| defaults.tls.clone()).unwrap_or_default();
        let store = settings.store.or(defaults.store).unwrap_or(true);
        let time = |own: Option<Time>, default: Option<Time>| own.or(default).map(|time| time.0);
        Some(SourceConfig {
            name: SourceName::new(name),
            plugin: own.plugin,
            sha256: own.sha256.map(|digest| digest.to_ascii_lowercase()),
            settings: own.config,
            permission,
            credentials,
            validate: own.validate,
            strategy: settings.strategy.or(defaults.strategy).map(Into::into),
            interval: time(settings.interval, defaults.interval),
            reconcile: time(settings.reconcile, defaults.reconcile),
            stale_after: time(settings.stale_after, defaults.stale_after),
            required: settings.required.or(defaults.required).unwrap_or(true),
            store,
            readable: settings.readable.or(defaults.readable).unwrap_or(store),
            limits,
            tls: TlsSettings {
                ca: tls.ca,
                certificate: tls.cert,
                key: tls.key,
                server_name: tls.server_name,
            },
            addresses,
            sinks,
        })
    }

    fn group(&mut self, at: &str) -> Option<GroupConfig> {
        let Value::Object(mut members) = self.document.at(at).clone() else {
            self.error(at, "expected a table");
            return None;
        };
        members.shift_remove("sink");
        let own: Option<raw::Group> = self.typed(at, Value::Object(members));
        let sinks = self.sinks(at);
        let own = own?;
        let name = self.name(at, &own.name)?;
        let sources = own.sources.iter().map(SourceName::new).collect();
        // `optional` is set when all sources are lowered.
        Some(GroupConfig { name, sources, optional: Vec::new(), wait: own.wait, sinks })
    }

    fn sinks(&mut self, at: &str) -> Vec<SinkSettings> {
        without_indices(self.list(&child_pointer(at, "sink"), |this, at, _| {
            let mut sink = this.document.at(at).clone();
            // Moves `type` to the front, so that serde checks the other keys against this type of sink.
            if let Value::Object(members) = &mut sink
                && let Some(kind) = members.shift_remove("type")
            {
                members.shift_insert(0, "type".into(), kind);
            }
            this.typed(at, sink)
        }))
    }

    /// Checks the name of a source or group. The allowed characters are safe in paths, environment variables and
    /// metric labels.
    fn name(&mut self, at: &str, name: &str) -> Option<String> {
        let fits = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if name.is_empty()
            || name.len() > MAX_NAME_BYTES
            || !name.chars().all(fits)
            || name.starts_with('.')
        {
            let expected = "expected a name of up to 128 letters, digits, `-`, `_` and `.`";
            self.error(&child_pointer(at, "name"), expected);
            return None;
        }
        Some(name.into())
    }

    /// Parses the texts of the grants. Reports invalid ones as diagnostics.
    fn permission(&mut self, at: &str, grants: &raw::Grants) -> Permission {
        let mut permission = Permission { implied: grants.implied, grants: BTreeSet::new() };
        type Parse = fn(&str) -> Result<Grant, GrantSyntaxError>;
        let kinds: [(&str, &[String], Parse); 4] = [
            ("connect", &grants.connect, Grant::connect),
            ("http", &grants.http, Grant::http),
            ("read", &grants.read, Grant::read),
            ("env", &grants.env, Grant::env),
        ];
        for (kind, texts, parse) in kinds {
            for (index, text) in texts.iter().enumerate() {
                match parse(text) {
                    Ok(grant) => {
                        permission.grants.insert(grant);
                    }
                    Err(error) => {
                        self.error(&format!("{at}/grants/{kind}/{index}"), error);
                    }
                }
            }
        }
        permission
    }

    fn credentials(&mut self, at: &str, written: &[raw::Credential]) -> Vec<Credential> {
        let mut credentials = Vec::new();
        for (index, written) in written.iter().enumerate() {
            let at = format!("{at}/credentials/{index}");
            let kinds = [
                ("bearer", &written.bearer),
                ("basic", &written.basic),
                ("header", &written.header),
            ];
            let mut given =
                kinds.iter().filter_map(|(kind, text)| text.as_ref().map(|text| (kind, text)));
            let (Some((kind, text)), None) = (given.next(), given.next()) else {
                self.error(&at, "expected one of `bearer`, `basic` and `header`");
                continue;
            };
            match Credential::parse(&format!("{}={kind}:{text}", written.origin)) {
                Ok(credential) => credentials.push(credential),
                Err(error) => self.error(&at, error),
            }
        }
        credentials
    }

    /// Lowers the limits: those of `[defaults]`, overridden by those of the source.
    fn limits(&mut self, at: &str, defaults: &SourceDefaults, own: &SourceDefaults) -> Limits {
        let mut limits = Limits::default();
        for (at, table) in [("/defaults", &defaults.limits), (at, &own.limits)] {
            for (name, amount) in table {
                let text = match amount {
                    Amount::Number(number) => number.to_string(),
                    Amount::Text(text) => text.clone(),
                };
                if let Err(error) = limits.set(name, &text) {
                    self.error(&child_pointer(&format!("{at}/limits"), name), error);
                }
            }
        }
        limits
    }

    fn addresses(&mut self, at: &str, texts: &[String]) -> Vec<AddressRange> {
        let mut ranges = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match text.parse() {
                Ok(range) => ranges.push(range),
                Err(error) => self.error::<AddressRangeError>(&child_pointer(at, index), error),
            }
        }
        ranges
    }

    /// Returns the value of `member` in each table of a list, with its JSON pointer. Omits values that are no strings.
    fn texts(&self, tables: &str, member: &str) -> Vec<(String, &'a str)> {
        let tables_at = child_pointer("", tables);
        let count = self.document.at(&tables_at).as_array().map_or(0, Vec::len);
        let pointers = (0..count).map(|index| format!("{tables_at}/{index}/{member}"));
        pointers.filter_map(|at| self.document.at(&at).as_str().map(|text| (at, text))).collect()
    }

    /// Checks that no two sources and no two groups have the same name.
    fn check_unique_names(&mut self) {
        for kind in ["source", "group"] {
            let mut seen = BTreeSet::new();
            for (at, name) in self.texts(kind, "name") {
                if !seen.insert(name) {
                    self.error(&at, format!("duplicate {kind} name `{name}`"));
                }
            }
        }
    }

    /// Checks that the sources of the groups exist.
    fn check_group_members(&mut self, sources: &[(usize, Arc<SourceConfig>)]) {
        // Names of all sources, including invalid ones. An invalid source is already reported, so the group that
        // contains it is not reported as well.
        let written: HashSet<_> =
            self.texts("source", "name").into_iter().map(|(_, name)| name).collect();
        let known: Vec<_> = sources.iter().map(|(_, source)| source.name.as_str()).collect();
        for (at, _) in self.texts("group", "name") {
            let members = at.replace("/name", "/sources");
            let Value::Array(items) = self.document.at(&members) else { continue };
            if items.is_empty() {
                self.error(&members, "expected the name of at least one source");
            }
            for (index, name) in items.iter().enumerate() {
                if let Some(name) = name.as_str().filter(|name| !written.contains(name)) {
                    self.error(
                        &child_pointer(&members, index),
                        unknown_name("source", name, &known),
                    );
                }
            }
        }
    }
}

fn without_indices<T>(items: Vec<(usize, T)>) -> Vec<T> {
    items.into_iter().map(|(_, item)| item).collect()
}
