//! `reloader.toml`: what a whole machine's configuration is made of.

mod conflicts;
mod deserialize;
mod diagnostics;
mod listen;
mod lower;
mod raw;
mod spanned_toml;

pub use diagnostics::ConfigError;
pub use listen::{ListenAddress, ListenTable, ListenTls, Scope, Token, TokenDigest};
pub use raw::{LogFormat, LogLevel, LogTable, StateTable};

use crate::reload_triggers::Stamp;
use diagnostics::Mistake;
use lower::{Parts, Reading};
use reloader_delivery::{
    SinkSettings, WaitSettings, process::SupervisorSettings, validate::ValidateSettings,
};
use reloader_engine::types::{SourceName, Strategy};
use reloader_net::TlsSettings;
use reloader_plugin_runtime::Limits;
use reloader_policy::{AddressRange, Credential, Permission};
use serde_json::{Map, Value};
use spanned_toml::{Document, below};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// A larger file is no configuration.
const SIZE_MAX: u64 = 16 << 20;

/// A configuration file that has been read and checked, as far as that can be done without its plugins.
#[derive(Debug)]
pub struct Config {
    /// Where it was read from.
    pub path: PathBuf,
    /// What the file was like then.
    pub(crate) stamp: Option<Stamp>,
    /// What is kept up to date.
    pub sources: Vec<SourceConfig>,
    /// What needs several sources.
    pub groups: Vec<GroupConfig>,
    /// What survives a restart.
    pub state: StateTable,
    /// The log.
    pub log: LogTable,
    /// Where the API is served, and for whom.
    pub listen: ListenTable,
    /// The program that uses the values.
    pub command: Option<SupervisorSettings>,
    origin: Origin,
}

/// The text, and where its parts stand, for what is found to be wrong later.
#[derive(Debug)]
struct Origin {
    text: String,
    document: Document,
    /// Of the sources, in their list.
    places: Vec<usize>,
    mistakes: Vec<Mistake>,
    /// Where the API is served, if that was said elsewhere.
    served_at: Option<ListenAddress>,
}

/// A source, with all defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Its name.
    pub name: SourceName,
    /// A bundled plugin's name, or the path of a component.
    pub plugin: String,
    /// The digest that the component must have.
    pub sha256: Option<String>,
    /// The plugin's settings, with references to secrets.
    pub settings: Map<String, Value>,
    /// What the plugin may reach.
    pub permission: Permission,
    /// What is sent along with its requests.
    pub credentials: Vec<Credential>,
    /// What a value is checked with.
    pub validate: Option<ValidateSettings>,
    /// What drives the updates; `None` for what the plugin can do best.
    pub strategy: Option<Strategy>,
    /// Time between two polls.
    pub interval: Option<Duration>,
    /// Time between two polls while a watch works.
    pub reconcile: Option<Duration>,
    /// When a value whose source does not answer is stale.
    pub stale_after: Option<Duration>,
    /// Whether the command waits for its first value.
    pub required: bool,
    /// Whether its values are kept in the state.
    pub store: bool,
    /// Whether its values may leave the host for those who ask.
    pub readable: bool,
    /// How much the plugin may use.
    pub limits: Limits,
    /// How its connections by TLS are secured.
    pub tls: TlsSettings,
    /// What names may stand for besides public addresses.
    pub addresses: Vec<AddressRange>,
    /// Where its values go.
    pub sinks: Vec<SinkSettings>,
}

impl SourceConfig {
    /// The plugins that it needs: its own, and one that judges its values.
    pub fn plugins(&self) -> impl Iterator<Item = &str> {
        let validator = self.validate.as_ref().and_then(|validate| validate.plugin.as_deref());
        [self.plugin.as_str()].into_iter().chain(validator)
    }
}

/// Sources that are used together.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupConfig {
    /// Its name.
    pub name: String,
    /// Its sources.
    pub sources: Vec<SourceName>,
    /// How long a burst of changes is waited for.
    pub wait: Option<WaitSettings>,
    /// Where their values go.
    pub sinks: Vec<SinkSettings>,
}

/// The JSON Schema of a configuration file, for editors.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(raw::File).to_value();
    schema["title"] = "reloader.toml".into();
    schema
}

impl Config {
    /// Reads a file, and checks it.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, and where.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_sound(path)?.whole()
    }

    /// What can be read of a file that may be wrong, for who wants to know what else is.
    ///
    /// # Errors
    ///
    /// When it cannot be read at all.
    pub(crate) fn read_sound(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |why: &dyn std::fmt::Display| ConfigError::unreadable(path.into(), why);
        // Before it is read: what comes after that is a change.
        let stamp = Stamp::of(path);
        let metadata = fs::metadata(path).map_err(|error| unreadable(&error))?;
        if !metadata.is_file() {
            return Err(unreadable(&"it is not a regular file"));
        }
        if metadata.len() > SIZE_MAX {
            return Err(unreadable(&format_args!("it has more than {} MiB", SIZE_MAX >> 20)));
        }
        let bytes = fs::read(path).map_err(|error| unreadable(&error))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable(&"it is not text (UTF-8)"))?;
        Ok(Self { stamp, ..Self::sound(path, text) })
    }

    /// Where the state lies, as far as that can be read from a file that may be wrong otherwise.
    pub(crate) fn state_of(path: &Path) -> StateTable {
        let text = fs::read_to_string(path).unwrap_or_default();
        let (document, _) = Document::parse(&text);
        let mut state = StateTable::default();
        state.enabled = document.at("/state/enabled").as_bool().unwrap_or(state.enabled);
        state.path = document.at("/state/path").as_str().map(Into::into);
        state
    }

    /// The same, of a text that was read from there.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, and where.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::sound(path, text.into()).whole()
    }

    fn sound(path: &Path, text: String) -> Self {
        let (document, mut mistakes) = Document::parse(&text);
        let mut parts = Parts::default();
        // What is no TOML has parts that are not what they seem.
        if mistakes.is_empty() {
            (parts, mistakes) = Reading::read(&document);
        }
        let Parts { sources, groups, state, log, listen, command } = parts;
        let (places, sources) = sources.into_iter().unzip();
        let origin = Origin { text, document, places, mistakes, served_at: None };
        Self {
            path: path.into(),
            stamp: None,
            sources,
            groups,
            state,
            log,
            listen,
            command,
            origin,
        }
    }

    fn whole(self) -> Result<Self, ConfigError> {
        if self.is_whole() { Ok(self) } else { Err(self.wrong([])) }
    }

    /// Whether nothing is wrong with it.
    pub(crate) fn is_whole(&self) -> bool {
        self.origin.mistakes.is_empty()
    }

    /// The pointer to a source's table, in steps.
    pub(crate) fn place(&self, source: usize) -> [String; 2] {
        let place = self.origin.places.get(source).copied().unwrap_or(source);
        ["source".into(), place.to_string()]
    }

    /// Serves the API there, whatever the file says, now and when it is read again.
    ///
    /// # Errors
    ///
    /// Why the API cannot be served there like this.
    pub fn serve_at(&mut self, address: ListenAddress) -> Result<(), String> {
        self.listen.address = Some(address.clone());
        self.origin.served_at = Some(address);
        self.listen.problem().map_or(Ok(()), Err)
    }

    /// Serves it where another one does, if that was said elsewhere than in the file.
    pub(crate) fn serve_as(&mut self, other: &Self) {
        if let Some(address) = &other.origin.served_at {
            self.listen.address = Some(address.clone());
            self.origin.served_at = Some(address.clone());
        }
    }

    /// Whether values are written to standard output.
    #[must_use]
    pub fn prints_values(&self) -> bool {
        let groups = self.groups.iter().map(|group| &group.sinks);
        let mut all = self.sources.iter().map(|source| &source.sinks).chain(groups).flatten();
        all.any(|sink| sink.kind() == "stdout")
    }

    /// What is wrong with it, together with what was found later, by the steps to its place.
    pub(crate) fn wrong(
        &self,
        mistakes: impl IntoIterator<Item = (Vec<String>, String)>,
    ) -> ConfigError {
        let Origin { text, document, mistakes: before, .. } = &self.origin;
        let later = mistakes.into_iter().map(|(path, message)| {
            let pointer = path.iter().fold(String::new(), |at, name| below(&at, name));
            Mistake { at: document.value_span(&pointer), message }
        });
        let all = before.iter().cloned().chain(later).collect();
        ConfigError::new(self.path.clone(), text, all)
    }
}
