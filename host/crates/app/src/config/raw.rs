//! Raw tables of a configuration file, before lowering.
//!
//! The documentation of the tables and keys is part of the JSON Schema that `host schema` prints: editors
//! show it to operators.

use reloader_delivery::{WaitSettings, source_value_validation::ValidateSettings};
use reloader_engine::types::Strategy;
use reloader_state::Retention;
use reloader_util::units::{Size, Time};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor},
};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt, path::PathBuf};

/// Settings of a source that have no defaults in `[defaults]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Source {
    /// Name of the source: 1 to 128 letters, digits, `-`, `_` and `.`, unique, and not starting with `.`.
    pub(crate) name: String,
    /// Name of a bundled plugin, or path of a component.
    pub(crate) plugin: String,
    /// SHA-256 digest of the component, 64 hexadecimal digits. A component with another digest is rejected.
    /// Default: no check.
    pub(crate) sha256: Option<String>,
    /// Settings of the plugin; the command `inspect PLUGIN` lists them. In strings, `${env:NAME}` is replaced by
    /// an environment variable, and `${file:PATH}` by the content of a file. Both are treated as secrets.
    #[serde(default)]
    pub(crate) config: Map<String, Value>,
    /// Grants: what the plugin may reach, in addition to what its settings name.
    #[serde(default)]
    pub(crate) grants: Grants,
    /// Credentials that the host adds to HTTP requests of the plugin. The plugin cannot read them.
    #[serde(default)]
    pub(crate) credentials: Vec<Credential>,
    /// Validation of new values before they are published. A rejected value is not published, and the last
    /// good value stays in effect. Default: no validation.
    pub(crate) validate: Option<ValidateSettings>,
}

/// Update strategy, intervals and limits of a source.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct SourceDefaults {
    /// Update strategy. Default: `hybrid` if the plugin can watch, else `polling`.
    pub(crate) strategy: Option<StrategyName>,
    /// Poll interval, from `1ms` to `366d`. Default: `10s`.
    pub(crate) interval: Option<Time>,
    /// Poll interval while a watch works, from `1ms` to `366d`. Default: `5m`.
    pub(crate) reconcile: Option<Time>,
    /// Time without an answer of the source after which its value is stale, from `1ms` to `366d`. Default:
    /// three poll intervals, at least `30s`.
    pub(crate) stale_after: Option<Time>,
    /// Makes `[command]` and the groups of the source wait for its first value. With `false`, a group is delivered
    /// without the source while it has no value: after its first failure, or after five seconds. Default: `true`.
    pub(crate) required: Option<bool>,
    /// Stores the values in the state store. With `false`, only the revision numbers are stored, and no
    /// content. Default: `true`.
    pub(crate) store: Option<bool>,
    /// Allows clients of the HTTP API to read the values. Default: the value of `store`.
    pub(crate) readable: Option<bool>,
    /// Resource limits of the plugin, such as `memory` or `call-timeout`; the command `run --help` lists them with
    /// their defaults.
    pub(crate) limits: BTreeMap<String, Amount>,
    /// TLS settings for the connections of the plugin.
    pub(crate) tls: Option<Tls>,
    /// Addresses, in addition to public ones, to which the domain names in the settings and grants may
    /// resolve: an IP address, a network such as `10.0.0.0/8`, or `private`. Default: none.
    pub(crate) allow_address: Option<Vec<String>>,
}

/// Update strategy of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StrategyName {
    /// Poll at the interval.
    Polling,
    /// Watch only.
    Realtime,
    /// Watch, with polling as fallback.
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

/// Value of a limit: `"32MiB"`, `"10s"` or `64`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Amount {
    /// Count.
    Number(u64),
    /// Size, duration or count with a unit.
    Text(String),
}

/// The error message names the expected types. A derived implementation would only state that no variant matches.
impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AmountVisitor;

        impl Visitor<'_> for AmountVisitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a non-negative integer, or a text such as \"32MiB\" or \"10s\"")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Amount, E> {
                Ok(Amount::Number(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Amount, E> {
                let number = u64::try_from(number);
                let number = number.map_err(|_| E::custom("expected a non-negative integer"))?;
                Ok(Amount::Number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
                Ok(Amount::Text(text.into()))
            }
        }

        deserializer.deserialize_any(AmountVisitor)
    }
}

/// Grants: what a plugin may reach.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Grants {
    /// Connections to these hosts and ports, as `HOST:PORT`; `*.example.com:443` covers all subdomains.
    /// Default: none.
    pub(crate) connect: Vec<String>,
    /// HTTP requests to these origins, or to these URLs and the paths below them. Default: none.
    pub(crate) http: Vec<String>,
    /// Files that the plugin may read, by the exact path that the plugin uses. Default: none.
    pub(crate) read: Vec<String>,
    /// Environment variables of the host that the plugin may read, by name. Default: none.
    pub(crate) env: Vec<String>,
    /// Allows the plugin to reach what its settings name. Default: `true`.
    pub(crate) implied: bool,
}

impl Default for Grants {
    fn default() -> Self {
        let none = Vec::new;
        Self { connect: none(), http: none(), read: none(), env: none(), implied: true }
    }
}

/// Credential for an origin. Exactly one of `bearer`, `basic` and `header` is required.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Credential {
    /// Origin that receives the credential, such as `https://api.example.com`.
    pub(crate) origin: String,
    /// Bearer token, or a reference to a secret such as `${env:TOKEN}`.
    pub(crate) bearer: Option<String>,
    /// User and password for basic authentication, as `USER:PASSWORD`. Both may be references to secrets.
    pub(crate) basic: Option<String>,
    /// Header, as `NAME:VALUE`. The value may be a reference to a secret.
    pub(crate) header: Option<String>,
}

/// TLS settings. The files are in PEM format and are read again when they change.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Tls {
    /// Certificate authorities to trust. Default: those of the system.
    pub(crate) ca: Option<PathBuf>,
    /// Client certificate, for servers that request one. Default: none.
    pub(crate) cert: Option<PathBuf>,
    /// Private key of `cert`.
    pub(crate) key: Option<PathBuf>,
    /// Name to expect in the certificate of the server. Default: the host name of the connection.
    pub(crate) server_name: Option<String>,
}

/// Settings of a group.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Group {
    /// Name of the group: 1 to 128 letters, digits, `-`, `_` and `.`, unique among groups and sources, and
    /// not starting with `.`.
    pub(crate) name: String,
    /// Names of the sources in the group, at least one.
    pub(crate) sources: Vec<String>,
    /// Debounce time for bursts of changes.
    pub(crate) wait: Option<WaitSettings>,
}

/// State that survives a restart: last values, history and delivery records.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StateTable {
    /// Stores the state. Default: `true`.
    pub enabled: bool,
    /// State directory. Default: `$STATE_DIRECTORY`, or a directory in `~/.local/state/reloader-host` that is
    /// named after the configuration file.
    pub path: Option<PathBuf>,
    /// Maximum number of stored revisions per source. Default: 20.
    pub history: u32,
    /// Maximum size of all stored revisions of a source. Default: `16MiB`.
    pub history_size: Size,
}

impl Default for StateTable {
    fn default() -> Self {
        let Retention { max_revisions, max_history_bytes, .. } = Retention::default();
        let history_size = Size(max_history_bytes);
        Self { enabled: true, path: None, history: max_revisions, history_size }
    }
}

/// Log of the host on stderr. The options `--log-level` and `--log-format` take precedence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LogTable {
    /// Minimum level of the log events. Default: `info`.
    pub level: Option<LogLevel>,
    /// Format of the log events. Default: `text`.
    pub format: Option<LogFormat>,
}

/// Minimum level of the log events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum LogLevel {
    /// No log.
    Off,
    /// Errors.
    Error,
    /// Warnings.
    Warn,
    /// Informational events.
    Info,
    /// Debug events.
    Debug,
    /// Trace events.
    Trace,
}

/// Format of the log events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum LogFormat {
    /// Text, one line per event.
    Text,
    /// One JSON object per line.
    Json,
}
