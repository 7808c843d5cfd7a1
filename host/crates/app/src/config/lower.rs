//! From a document to a [`Config`](crate::Config): table by table, with all that is wrong.

use super::{
    GroupConfig, ListenTable, LogTable, SourceConfig, StateTable,
    conflicts::conflicts,
    deserialize::{did_you_mean, read},
    diagnostics::Mistake,
    raw::{self, Amount, Upkeep},
    spanned_toml::{Document, below},
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
use std::collections::BTreeSet;

/// What a file says.
#[derive(Default)]
pub(crate) struct Parts {
    /// With their places in the list.
    pub(crate) sources: Vec<(usize, SourceConfig)>,
    pub(crate) groups: Vec<GroupConfig>,
    pub(crate) state: StateTable,
    pub(crate) log: LogTable,
    pub(crate) listen: ListenTable,
    pub(crate) command: Option<SupervisorSettings>,
}

/// A document being read.
pub(crate) struct Reading<'a> {
    document: &'a Document,
    mistakes: Vec<Mistake>,
}

/// The tables of a file.
const TABLES: [&str; 7] = ["source", "group", "defaults", "state", "log", "listen", "command"];

impl<'a> Reading<'a> {
    /// What it says, as far as it is right; and all that is wrong with it.
    pub(crate) fn read(document: &'a Document) -> (Parts, Vec<Mistake>) {
        let mut reading = Self { document, mistakes: Vec::new() };
        let parts = reading.config().unwrap_or_default();
        (parts, reading.mistakes)
    }

    fn config(&mut self) -> Option<Parts> {
        let names: Vec<_> = self.document.value.as_object()?.keys().cloned().collect();
        for name in names.iter().filter(|name| !TABLES.contains(&name.as_str())) {
            self.wrong_key(&below("", name), did_you_mean("table", name, &TABLES));
        }
        let defaults = self.table::<Upkeep>("/defaults");
        let state = self.table("/state");
        let log = self.table("/log");
        let listen: Option<ListenTable> = self.table("/listen");
        let command = match self.document.at("/command") {
            Value::Null => None,
            value => self.typed("/command", value.clone()),
        };
        let defaults = defaults.unwrap_or_default();
        let sources = self.tables("/source", |this, at| this.source(at, &defaults));
        let groups = without_places(self.tables("/group", Self::group));
        if matches!(self.document.at("/source"), Value::Null) {
            // A file that is being written, perhaps: nothing ends because of it.
            self.wrong("", "there is no `[[source]]`: nothing would be kept up to date");
        }
        self.unique_names();
        self.group_members(&sources);
        // Where something is wrong, tables are missing, and others are not at their places.
        if self.mistakes.is_empty() {
            for (at, message) in conflicts(&sources, &groups) {
                self.wrong(&at, message);
            }
        }
        let listen = listen.unwrap_or_default();
        let known = self.texts("source", "name");
        let known: Vec<_> = known.iter().map(|(_, name)| *name).collect();
        for (at, message) in listen.mistakes(&known) {
            self.wrong(&format!("/listen{at}"), message);
        }
        let (state, log) = (state.unwrap_or_default(), log.unwrap_or_default());
        Some(Parts { sources, groups, state, log, listen, command })
    }

    fn wrong<T: ToString>(&mut self, at: &str, message: T) {
        let at = self.document.value_span(at);
        self.mistakes.push(Mistake { at, message: message.to_string() });
    }

    fn wrong_key(&mut self, at: &str, message: String) {
        self.mistakes.push(Mistake { at: self.document.key_span(at), message });
    }

    fn typed<T: DeserializeOwned>(&mut self, at: &str, value: Value) -> Option<T> {
        read(self.document, at, value, &mut self.mistakes)
    }

    /// A table that may be left out.
    fn table<T: DeserializeOwned + Default>(&mut self, at: &str) -> Option<T> {
        match self.document.at(at) {
            Value::Null => Some(T::default()),
            value => self.typed(at, value.clone()),
        }
    }

    /// Each of a list of tables, with its place.
    fn tables<T>(
        &mut self,
        at: &str,
        mut table: impl FnMut(&mut Self, &str) -> Option<T>,
    ) -> Vec<(usize, T)> {
        match self.document.at(at) {
            Value::Null => Vec::new(),
            Value::Array(items) => {
                let items = 0..items.len();
                let read = |index| table(self, &below(at, index)).map(|item| (index, item));
                items.filter_map(read).collect()
            }
            _ => {
                let name = at.rsplit('/').next().unwrap_or_default();
                self.wrong_key(at, format!("`{name}` is a list of tables: write `[[{name}]]`"));
                Vec::new()
            }
        }
    }

    fn source(&mut self, at: &str, defaults: &Upkeep) -> Option<SourceConfig> {
        let Value::Object(members) = self.document.at(at).clone() else {
            self.wrong(at, "expected a table");
            return None;
        };
        // Its own settings, those that have defaults, and its sinks are read one after the other.
        let (mut own, mut upkeep) = (Map::new(), Map::new());
        for (name, value) in members {
            if UPKEEP.contains(&name.as_str()) {
                upkeep.insert(name, value);
            } else if OWN.contains(&name.as_str()) {
                own.insert(name, value);
            } else if name != "sink" {
                let all = [&OWN[..], &UPKEEP, &["sink"]].concat();
                self.wrong_key(&below(at, &name), did_you_mean("key", &name, &all));
            }
        }
        let own: Option<raw::Source> = self.typed(at, Value::Object(own));
        let upkeep: Option<Upkeep> = self.typed(at, Value::Object(upkeep));
        let sinks = self.sinks(at);
        let (mut own, upkeep) = (own?, upkeep?);
        let name = self.name(at, &own.name)?;
        let is_digest =
            |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if own.sha256.take_if(|text| !is_digest(text)).is_some() {
            self.wrong(&below(at, "sha256"), "expected 64 hexadecimal digits");
        }
        let permission = self.permission(at, &own.grants);
        let credentials = self.credentials(at, &own.credentials);
        let limits = self.limits(at, defaults, &upkeep);
        let addresses = match &upkeep.allow_address {
            Some(own) => self.addresses(&below(at, "allow-address"), own),
            None => {
                let all = defaults.allow_address.clone().unwrap_or_default();
                self.addresses("/defaults/allow-address", &all)
            }
        };
        let tls = upkeep.tls.or_else(|| defaults.tls.clone()).unwrap_or_default();
        let store = upkeep.store.or(defaults.store).unwrap_or(true);
        let time = |own: Option<Time>, default: Option<Time>| own.or(default).map(|time| time.0);
        Some(SourceConfig {
            name: SourceName::new(name),
            plugin: own.plugin,
            sha256: own.sha256.map(|digest| digest.to_ascii_lowercase()),
            settings: own.config,
            permission,
            credentials,
            validate: own.validate,
            strategy: upkeep.strategy.or(defaults.strategy).map(Into::into),
            interval: time(upkeep.interval, defaults.interval),
            reconcile: time(upkeep.reconcile, defaults.reconcile),
            stale_after: time(upkeep.stale_after, defaults.stale_after),
            required: upkeep.required.or(defaults.required).unwrap_or(true),
            store,
            readable: upkeep.readable.or(defaults.readable).unwrap_or(store),
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
            self.wrong(at, "expected a table");
            return None;
        };
        members.shift_remove("sink");
        let own: Option<raw::Group> = self.typed(at, Value::Object(members));
        let sinks = self.sinks(at);
        let own = own?;
        let name = self.name(at, &own.name)?;
        let sources = own.sources.iter().map(SourceName::new).collect();
        Some(GroupConfig { name, sources, wait: own.wait, sinks })
    }

    fn sinks(&mut self, at: &str) -> Vec<SinkSettings> {
        without_places(self.tables(&below(at, "sink"), |this, at| {
            let mut sink = this.document.at(at).clone();
            // Whoever knows the type first can say which key is wrong.
            if let Value::Object(members) = &mut sink
                && let Some(kind) = members.shift_remove("type")
            {
                members.shift_insert(0, "type".into(), kind);
            }
            this.typed(at, sink)
        }))
    }

    /// A name that can stand in a path, an environment and a label.
    fn name(&mut self, at: &str, name: &str) -> Option<String> {
        let fits = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if name.is_empty() || name.len() > 128 || !name.chars().all(fits) || name.starts_with('.') {
            let expected = "expected a name of up to 128 letters, digits, `-`, `_` and `.`";
            self.wrong(&below(at, "name"), expected);
            return None;
        }
        Some(name.into())
    }

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
                        self.wrong(&format!("{at}/grants/{kind}/{index}"), error);
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
                self.wrong(&at, "expected one of `bearer`, `basic` and `header`");
                continue;
            };
            match Credential::parse(&format!("{}={kind}:{text}", written.origin)) {
                Ok(credential) => credentials.push(credential),
                Err(error) => self.wrong(&at, error),
            }
        }
        credentials
    }

    fn limits(&mut self, at: &str, defaults: &Upkeep, own: &Upkeep) -> Limits {
        let mut limits = Limits::default();
        for (at, table) in [("/defaults", &defaults.limits), (at, &own.limits)] {
            for (name, amount) in table {
                let text = match amount {
                    Amount::Number(number) => number.to_string(),
                    Amount::Text(text) => text.clone(),
                };
                if let Err(error) = limits.set(name, &text) {
                    self.wrong(&below(&format!("{at}/limits"), name), error);
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
                Err(error) => self.wrong::<AddressRangeError>(&below(at, index), error),
            }
        }
        ranges
    }

    /// What is at a member of each of some tables, with the pointer to it; text alone.
    fn texts(&self, tables: &str, member: &str) -> Vec<(String, &'a str)> {
        let tables_at = below("", tables);
        let count = self.document.at(&tables_at).as_array().map_or(0, Vec::len);
        let pointers = (0..count).map(|index| format!("{tables_at}/{index}/{member}"));
        pointers.filter_map(|at| self.document.at(&at).as_str().map(|text| (at, text))).collect()
    }

    /// A name is given once.
    fn unique_names(&mut self) {
        for kind in ["source", "group"] {
            let mut seen = BTreeSet::new();
            for (at, name) in self.texts(kind, "name") {
                if !seen.insert(name) {
                    self.wrong(&at, format!("there is another {kind} named `{name}`"));
                }
            }
        }
    }

    /// Groups are made of sources that are there.
    fn group_members(&mut self, sources: &[(usize, SourceConfig)]) {
        // Also those with mistakes.
        let written: Vec<_> =
            self.texts("source", "name").into_iter().map(|(_, name)| name).collect();
        let known: Vec<_> = sources.iter().map(|(_, source)| source.name.as_str()).collect();
        for (at, _) in self.texts("group", "name") {
            let members = at.replace("/name", "/sources");
            let Value::Array(items) = self.document.at(&members) else { continue };
            if items.is_empty() {
                self.wrong(&members, "expected the name of at least one source");
            }
            for (index, name) in items.iter().enumerate() {
                if let Some(name) = name.as_str().filter(|name| !written.contains(name)) {
                    self.wrong(&below(&members, index), did_you_mean("source", name, &known));
                }
            }
        }
    }
}

fn without_places<T>(items: Vec<(usize, T)>) -> Vec<T> {
    items.into_iter().map(|(_, item)| item).collect()
}

/// The keys of [`raw::Source`].
const OWN: [&str; 7] = ["name", "plugin", "sha256", "config", "grants", "credentials", "validate"];
/// The keys of [`Upkeep`].
const UPKEEP: [&str; 10] = [
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
