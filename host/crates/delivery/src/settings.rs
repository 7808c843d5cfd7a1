//! Settings of a sink in a configuration file: common keys, and the keys of its type.

use super::{
    Exec, ExecSettings, File, FileSettings, Format, OnRemoved, SignalSettings, SignalTo, Sink,
    SinkError, StdoutSink, Template, TemplateSettings, Update, WaitSettings, Webhook,
    WebhookSettings, WorkerSettings,
};
use reloader_util::units::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, IntoDeserializer, MapAccess, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::VecDeque, fmt, marker::PhantomData, time::Duration};

/// Settings of one sink.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkSettings {
    /// Common settings.
    pub common: Common,
    /// Type of the sink with the settings of this type.
    pub kind: Kind,
}

/// Settings that all types of sinks have in common.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Common {
    /// Name of the sink in the log and in the state store. Default: its type and its index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Timeout of one delivery attempt. Default: `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Time>,
    /// Maximum number of retries after a failed delivery, with exponential backoff from 200 ms to
    /// 30 s. A newer value is delivered immediately. Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Interval of further retries after `retries` is exhausted. Default: `5m` for stdout, file,
    /// template and webhook sinks; exec and signal sinks do not retry until the value changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_later: Option<Time>,
    /// Action when the source removes its value: `keep` keeps the last delivered value; `clear`
    /// removes a file and delivers the event `removed` to other sinks. Default: `keep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_removed: Option<OnRemoved>,
}

/// Types of sinks.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a configuration has few sinks")]
pub enum Kind {
    /// Standard output.
    Stdout(StdoutSettings),
    /// A file with the value.
    File(FileSettings),
    /// A command that runs for each value.
    Exec(ExecSettings),
    /// A signal to a process.
    Signal(SignalSettings),
    /// An HTTP request.
    Webhook(WebhookSettings),
    /// A file rendered from a template.
    Template(TemplateSettings),
}

/// Settings of the standard output sink.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StdoutSettings {
    /// Output format: `json`, one object per line; or `raw`, the content only. Default: `json`.
    #[serde(default)]
    pub format: Format,
}

/// Values of the key `type`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypeName {
    Stdout,
    File,
    Exec,
    Signal,
    Webhook,
    Template,
}

/// Keys of [`Common`].
const COMMON_KEYS: [&str; 5] = ["name", "timeout", "retries", "retry-later", "on-removed"];
/// Key of the sink's type.
const TYPE_KEY: &str = "type";
/// Default timeout of one attempt.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Default maximum number of retries.
const DEFAULT_RETRIES: u32 = 10;
/// Default interval of retries after `retries` is exhausted.
const DEFAULT_RETRY_LATER: Duration = Duration::from_secs(300);
/// Time for the cleanup of a command after its timeout and its grace period.
const EXEC_CLEANUP_TIME: Duration = Duration::from_secs(5);

impl Kind {
    /// Returns the name of the type, as in the key `type`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stdout(_) => "stdout",
            Self::File(_) => "file",
            Self::Exec(_) => "exec",
            Self::Signal(_) => "signal",
            Self::Webhook(_) => "webhook",
            Self::Template(_) => "template",
        }
    }
}

impl From<Kind> for SinkSettings {
    fn from(kind: Kind) -> Self {
        Self { common: Common::default(), kind }
    }
}

impl SinkSettings {
    /// Returns the configured name, if any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.common.name.as_deref()
    }

    /// Returns the name of the type, as in the key `type`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind.name()
    }

    /// Returns whether the sink writes a file. Notifiers of the same source run after such sinks.
    #[must_use]
    pub fn writes_file(&self) -> bool {
        matches!(self.kind, Kind::File(_) | Kind::Template(_))
    }

    /// Returns whether the sink is a notifier: it triggers an action after other sinks have written
    /// their files.
    #[must_use]
    pub fn is_notifier(&self) -> bool {
        matches!(self.kind, Kind::Exec(_) | Kind::Signal(_))
    }

    /// Returns whether the sink runs a command. The output of a command, and therefore its error,
    /// may contain the value.
    #[must_use]
    pub fn runs_command(&self) -> bool {
        matches!(self.kind, Kind::Exec(_))
    }

    /// Returns the sink. `owner` is the name of its source or group, for the log. Does not access
    /// files or the network.
    ///
    /// # Errors
    ///
    /// Returns an error for settings that can never work, e.g. an invalid template or URL.
    pub fn build(&self, owner: &str) -> Result<Box<dyn Sink>, SinkError> {
        Ok(match self.kind.clone() {
            Kind::Stdout(settings) => Box::new(StdoutSink::new(settings.format)),
            Kind::File(settings) => Box::new(File::new(settings)),
            Kind::Exec(settings) => {
                let label = format!("{owner}/{}", self.name().unwrap_or("exec"));
                Box::new(Exec::new(label, settings, self.timeout()))
            }
            Kind::Signal(settings) => Box::new(SignalTo::new(settings)),
            Kind::Webhook(settings) => Box::new(Webhook::new(settings)?),
            Kind::Template(settings) => Box::new(Template::new(&settings)?),
        })
    }

    /// Returns the settings of the sink's worker. `wait` is the debounce of the sink's group.
    #[must_use]
    pub fn worker(&self, wait: Option<&WaitSettings>) -> WorkerSettings {
        let timeout = match &self.kind {
            // The command has a timeout of its own. The worker's timeout is longer.
            Kind::Exec(exec) => self.timeout() + exec.kill_after.0 + EXEC_CLEANUP_TIME,
            _ => self.timeout(),
        };
        WorkerSettings {
            timeout,
            retries: self.common.retries.unwrap_or(DEFAULT_RETRIES),
            retry_later: match self.common.retry_later {
                Some(later) => Some(later.0),
                None => (!self.is_notifier()).then_some(DEFAULT_RETRY_LATER),
            },
            on_removed: self.common.on_removed.unwrap_or_default(),
            wait: wait.copied(),
            // A digest, because the settings may contain secrets.
            fingerprint: Update::new(Vec::new())
                .digest(&Value::from(self.fields()).to_string())
                .to_string(),
        }
    }

    fn timeout(&self) -> Duration {
        self.common.timeout.map_or(DEFAULT_TIMEOUT, |time| time.0)
    }

    /// Returns the settings of the sink's type, with the key `type`.
    fn fields(&self) -> Map<String, Value> {
        let fields = match &self.kind {
            Kind::Stdout(settings) => serde_json::to_value(settings),
            Kind::File(settings) => serde_json::to_value(settings),
            Kind::Exec(settings) => serde_json::to_value(settings),
            Kind::Signal(settings) => serde_json::to_value(settings),
            Kind::Webhook(settings) => serde_json::to_value(settings),
            Kind::Template(settings) => serde_json::to_value(settings),
        };
        let mut all = Map::new();
        all.insert(TYPE_KEY.into(), self.kind().into());
        if let Ok(Value::Object(fields)) = fields {
            all.extend(fields);
        }
        all
    }
}

impl Serialize for SinkSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = self.fields();
        if let Ok(Value::Object(common)) = serde_json::to_value(&self.common) {
            all.extend(common);
        }
        all.serialize(serializer)
    }
}

/// Deserializes fields in the order of the input, so that errors keep their position in the file.
///
/// The serde attributes `tag` and `flatten` buffer all fields first and lose the positions.
impl<'de> Deserialize<'de> for SinkSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = SinkSettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with a `type`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SinkSettings, A::Error> {
        let (mut before, mut name) = (VecDeque::new(), None);
        while let Some(key) = map.next_key::<String>()? {
            if key == TYPE_KEY {
                name = Some(map.next_value::<TypeName>()?);
                break;
            }
            before.push_back((key, map.next_value::<Value>()?));
        }
        let name = name.ok_or_else(|| de::Error::missing_field(TYPE_KEY))?;
        let mut common = Common::default();
        let fields = TypeFields { before, map, common: &mut common, current: None };
        let fields = MapAccessDeserializer::new(fields);
        let kind = match name {
            TypeName::Stdout => Kind::Stdout(Deserialize::deserialize(fields)?),
            TypeName::File => Kind::File(Deserialize::deserialize(fields)?),
            TypeName::Exec => Kind::Exec(Deserialize::deserialize(fields)?),
            TypeName::Signal => Kind::Signal(Deserialize::deserialize(fields)?),
            TypeName::Webhook => Kind::Webhook(Deserialize::deserialize(fields)?),
            TypeName::Template => Kind::Template(Deserialize::deserialize(fields)?),
        };
        Ok(SinkSettings { common, kind })
    }
}

/// Map of the type-specific keys. Common keys are stored in `common` and not passed on.
struct TypeFields<'a, A> {
    /// Buffered entries before the key `type`.
    before: VecDeque<(String, Value)>,
    /// Entries after the key `type`.
    map: A,
    common: &'a mut Common,
    /// Buffered entry whose key has been passed on.
    current: Option<(String, Value)>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for TypeFields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some((key, value)) = self.before.pop_front() {
            if COMMON_KEYS.contains(&key.as_str()) {
                let with_key = |error| de::Error::custom(format_args!("`{key}`: {error}"));
                self.common.set::<_, serde_json::Error>(&key, value.clone()).map_err(with_key)?;
                continue;
            }
            let field = seed.deserialize(key.as_str().into_deserializer());
            self.current = Some((key, value));
            return field.map(Some).map_err(add_common_keys);
        }
        let mut seed = Some(seed);
        loop {
            let key = KeySeed { seed: &mut seed, _de: PhantomData };
            match self.map.next_key_seed(key)? {
                None => return Ok(None),
                Some(Key::OfType(key)) => return Ok(Some(key)),
                Some(Key::Common(key)) => {
                    let field = CommonField { key, common: self.common };
                    self.map.next_value_seed(field)?;
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.current.take() {
            Some((key, value)) => seed
                .deserialize(value)
                .map_err(|error| de::Error::custom(format_args!("`{key}`: {error}"))),
            None => self.map.next_value_seed(seed),
        }
    }
}

/// Adds the common keys to the list of expected keys in an error about an unknown key.
fn add_common_keys<E: de::Error>(error: E) -> E {
    let error = error.to_string();
    if !error.starts_with("unknown field") {
        return E::custom(error);
    }
    E::custom(format_args!("{error}, `{}`", COMMON_KEYS.join("`, `")))
}

/// Seed for a key that is either a common key or a key of the type.
struct KeySeed<'a, 'de, K> {
    seed: &'a mut Option<K>,
    _de: PhantomData<&'de ()>,
}

enum Key<K> {
    Common(&'static str),
    OfType(K),
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeySeed<'_, 'de, K> {
    type Value = Key<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        if let Some(common) = COMMON_KEYS.into_iter().find(|common| *common == key) {
            return Ok(Key::Common(common));
        }
        let seed = self.seed.take().ok_or_else(|| de::Error::custom("key read twice"))?;
        let field = seed.deserialize(key.as_str().into_deserializer());
        field.map(Key::OfType).map_err(add_common_keys)
    }
}

/// Seed for the value of a common key.
struct CommonField<'a> {
    key: &'static str,
    common: &'a mut Common,
}

impl<'de> DeserializeSeed<'de> for CommonField<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.common.set(self.key, deserializer)
    }
}

impl Common {
    /// Sets the field with this key.
    fn set<'de, D, E>(&mut self, key: &str, value: D) -> Result<(), E>
    where
        D: Deserializer<'de, Error = E>,
        E: de::Error,
    {
        match key {
            "name" => self.name = Some(String::deserialize(value)?),
            "timeout" => self.timeout = Some(Time::deserialize(value)?),
            "retries" => self.retries = Some(u32::deserialize(value)?),
            "retry-later" => self.retry_later = Some(Time::deserialize(value)?),
            "on-removed" => self.on_removed = Some(OnRemoved::deserialize(value)?),
            _ => return Err(E::custom(format_args!("unknown field `{key}`"))),
        }
        Ok(())
    }
}

impl JsonSchema for SinkSettings {
    fn schema_name() -> Cow<'static, str> {
        "Sink".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let common = Common::json_schema(generator);
        let kind = |name: &str, schema: Schema| {
            let mut schema = schema.to_value();
            schema["properties"][TYPE_KEY] = serde_json::json!({ "const": name });
            if let (Some(all), Some(own)) = (
                common.get("properties").and_then(Value::as_object),
                schema["properties"].as_object_mut(),
            ) {
                own.extend(all.clone());
            }
            match schema["required"].as_array_mut() {
                Some(required) => required.insert(0, TYPE_KEY.into()),
                None => schema["required"] = serde_json::json!([TYPE_KEY]),
            }
            schema
        };
        let kinds = [
            kind("stdout", StdoutSettings::json_schema(generator)),
            kind("file", FileSettings::json_schema(generator)),
            kind("exec", ExecSettings::json_schema(generator)),
            kind("signal", SignalSettings::json_schema(generator)),
            kind("webhook", WebhookSettings::json_schema(generator)),
            kind("template", TemplateSettings::json_schema(generator)),
        ];
        json_schema!({ "type": "object", "required": [TYPE_KEY], "oneOf": kinds })
    }
}
