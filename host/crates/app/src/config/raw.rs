//! The tables of a configuration file, as they are written.

use super::listen::ListenTable;
use reloader_delivery::{
    SinkSettings, WaitSettings, process::SupervisorSettings, validate::ValidateSettings,
};
use reloader_engine::types::Strategy;
use reloader_util::units::{Size, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::PathBuf};

/// What a configuration file is made of: for its JSON Schema. It is read table by table.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct File {
    /// What is kept up to date.
    #[schemars(default)]
    source: Vec<SourceTable>,
    /// What needs several sources.
    #[schemars(default)]
    group: Vec<GroupTable>,
    /// What holds for each source that does not say otherwise.
    #[schemars(default)]
    defaults: Upkeep,
    /// What survives a restart.
    #[schemars(default)]
    state: StateTable,
    /// The log.
    #[schemars(default)]
    log: LogTable,
    /// Where the API is served, and for whom.
    #[schemars(default)]
    listen: ListenTable,
    /// The program that uses the values, started and supervised by the host.
    command: Option<SupervisorSettings>,
}

/// A source, with its sinks.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
struct SourceTable {
    #[schemars(flatten)]
    own: Source,
    #[schemars(flatten)]
    upkeep: Upkeep,
    /// Where its values go.
    #[schemars(default)]
    sink: Vec<SinkSettings>,
}

/// A group, with its sinks.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
struct GroupTable {
    #[schemars(flatten)]
    own: Group,
    /// Where its values go.
    #[schemars(default)]
    sink: Vec<SinkSettings>,
}

/// What belongs to one source alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Source {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub(crate) name: String,
    /// A bundled plugin's name, or the path of a component.
    pub(crate) plugin: String,
    /// The SHA-256 of the component, in hexadecimal: another one is refused.
    pub(crate) sha256: Option<String>,
    /// The plugin's settings (see `host inspect`). In a text, `${env:NAME}` and `${file:PATH}` stand for
    /// secrets.
    #[serde(default)]
    pub(crate) config: Map<String, Value>,
    /// What the plugin may reach, besides what its settings name.
    #[serde(default)]
    pub(crate) grants: Grants,
    /// What is sent along with its requests, without the plugin seeing it.
    #[serde(default)]
    pub(crate) credentials: Vec<Credential>,
    /// What a value is checked with before it is let through.
    pub(crate) validate: Option<ValidateSettings>,
}

/// How a source is kept up to date, and what it may use.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Upkeep {
    /// What drives the updates: by default `hybrid` where the plugin can watch, else `polling`.
    pub(crate) strategy: Option<StrategyName>,
    /// Time between two polls; by default `10s`.
    pub(crate) interval: Option<Time>,
    /// Time between two polls while a watch works; by default `5m`.
    pub(crate) reconcile: Option<Time>,
    /// When a value whose source does not answer is stale; by default three intervals, and at least
    /// `30s`.
    pub(crate) stale_after: Option<Time>,
    /// Whether `[command]` waits for its first value; by default it does.
    pub(crate) required: Option<bool>,
    /// Whether its values are kept in the state; if not, its revision is, and no content. By default
    /// they are.
    pub(crate) store: Option<bool>,
    /// Whether its values may be read over HTTP; by default they may, unless `store = false` says that
    /// they are secrets.
    pub(crate) readable: Option<bool>,
    /// How much the plugin may use, by the names of `host run --help`.
    pub(crate) limits: BTreeMap<String, Amount>,
    /// How its connections by TLS are secured.
    pub(crate) tls: Option<Tls>,
    /// Which addresses that are not public the names in its settings may stand for: an address, a
    /// network, or `private`.
    pub(crate) allow_address: Option<Vec<String>>,
}

/// What drives the updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StrategyName {
    /// Read it at the interval.
    Polling,
    /// Wait for its events.
    Realtime,
    /// Wait for its events, and poll while that does not work.
    Hybrid,
}

impl From<StrategyName> for Strategy {
    fn from(name: StrategyName) -> Self {
        match name {
            StrategyName::Polling => Self::Polling,
            StrategyName::Realtime => Self::Realtime,
            StrategyName::Hybrid => Self::Hybrid,
        }
    }
}

/// A limit's value: `"32MiB"`, `"10s"`, `64`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Amount {
    /// A count.
    Number(u64),
    /// A size, a duration, or a count.
    Text(String),
}

/// What a plugin may reach.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Grants {
    /// Connections to these hosts and ports; `*.example.com:443` for all below a domain.
    pub(crate) connect: Vec<String>,
    /// Requests to these origins, or to these paths of them and those below.
    pub(crate) http: Vec<String>,
    /// Reading these files, by the very path that the plugin asks for.
    pub(crate) read: Vec<String>,
    /// These variables of the host's environment.
    pub(crate) env: Vec<String>,
    /// Whether what its settings name is granted; by default it is.
    pub(crate) implied: bool,
}

impl Default for Grants {
    fn default() -> Self {
        let none = Vec::new;
        Self { connect: none(), http: none(), read: none(), env: none(), implied: true }
    }
}

/// A credential for an origin. One of `bearer`, `basic` and `header`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Credential {
    /// `https://api.example.com`.
    pub(crate) origin: String,
    /// A token, or a reference to one.
    pub(crate) bearer: Option<String>,
    /// `USER:PASSWORD`, or references to them.
    pub(crate) basic: Option<String>,
    /// `NAME:VALUE`, or a reference to the value.
    pub(crate) header: Option<String>,
}

/// How connections by TLS are secured. Files are PEM, and are read again when they change.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Tls {
    /// The authorities to trust, instead of this machine's.
    pub(crate) ca: Option<PathBuf>,
    /// The certificate to show to servers that ask for one.
    pub(crate) cert: Option<PathBuf>,
    /// The key of `cert`.
    pub(crate) key: Option<PathBuf>,
    /// The name to expect in servers' certificates, instead of the host's.
    pub(crate) server_name: Option<String>,
}

/// Sources that are used together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: String,
    /// The names of its sources.
    pub(crate) sources: Vec<String>,
    /// How long a burst of changes is waited for.
    pub(crate) wait: Option<WaitSettings>,
}

/// What survives a restart.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StateTable {
    /// Whether anything is kept; by default it is.
    pub enabled: bool,
    /// The directory; by default `$STATE_DIRECTORY`, or one in `~/.local/state/reloader-host` named after
    /// the configuration file.
    pub path: Option<PathBuf>,
    /// How many revisions of each source are kept; by default 20.
    pub history: u32,
    /// How much of each source is kept, in all its revisions; by default `16MiB`.
    pub history_size: Size,
}

impl Default for StateTable {
    fn default() -> Self {
        Self { enabled: true, path: None, history: 20, history_size: Size(16 << 20) }
    }
}

/// The log, which goes to stderr. The command line's `--log-level` and `--log-format` come first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LogTable {
    /// What to log; by default `info`.
    pub level: Option<LogLevel>,
    /// How to log; by default `text`.
    pub format: Option<LogFormat>,
}

/// What to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What does not work.
    Error,
    /// What may soon not work.
    Warn,
    /// What happens.
    Info,
    /// In more detail.
    Debug,
    /// In all detail.
    Trace,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
