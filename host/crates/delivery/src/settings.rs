//! A sink, as an operator writes it: what all have in common, and what belongs to its type.

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

/// One sink.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkSettings {
    /// What all sinks have in common.
    pub common: Common,
    /// What kind it is, with what belongs to that.
    pub kind: Kind,
}

/// What all sinks have in common.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Common {
    /// Its name, for the log and the state. Default: its type and its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What one try may take. Default: `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Time>,
    /// How often the same value is tried again after a failure, with pauses that grow from 200 ms to
    /// 30 s. A newer value takes its place at once. Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// When all these have failed, it is tried again each time that so long has passed. Default: `5m`
    /// for stdout, files, templates and webhooks; a command or a signal waits for another value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_later: Option<Time>,
    /// What is done when the source has no value any more: `keep` the last one, or `clear`: a file is
    /// removed, others are told. Default: `keep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_removed: Option<OnRemoved>,
}

/// The kinds of sinks.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there are as many as in a configuration file")]
pub enum Kind {
    /// Lines on standard output.
    Stdout(StdoutSettings),
    /// A file.
    File(FileSettings),
    /// A command.
    Exec(ExecSettings),
    /// A signal to a process.
    Signal(SignalSettings),
    /// A request.
    Webhook(WebhookSettings),
    /// A file that is rendered.
    Template(TemplateSettings),
}

/// Lines on standard output.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StdoutSettings {
    /// `json`, one object a line; or `raw`, the content alone. Default: `json`.
    #[serde(default)]
    pub format: Format,
}

/// The kinds, by the name in `type`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Name {
    Stdout,
    File,
    Exec,
    Signal,
    Webhook,
    Template,
}

/// The keys of [`Common`].
const COMMON: [&str; 5] = ["name", "timeout", "retries", "retry-later", "on-removed"];
const TYPE: &str = "type";
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_LATER: Duration = Duration::from_secs(300);

impl Kind {
    /// The name in `type`.
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
    /// Its name, if it was given one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.common.name.as_deref()
    }

    /// What kind it is, as in `type`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind.name()
    }

    /// Whether it writes files, so that others tell of them.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(self.kind, Kind::File(_) | Kind::Template(_))
    }

    /// Whether it tells somebody of what others write.
    #[must_use]
    pub fn tells(&self) -> bool {
        matches!(self.kind, Kind::Exec(_) | Kind::Signal(_))
    }

    /// Whether it runs a command, which may say anything.
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self.kind, Kind::Exec(_))
    }

    /// Makes the sink, of the source or the group of this name. Nothing outside is looked at yet.
    ///
    /// # Errors
    ///
    /// What can never work: a template that is none, a URL that is none.
    pub fn build(&self, of: &str) -> Result<Box<dyn Sink>, SinkError> {
        Ok(match self.kind.clone() {
            Kind::Stdout(settings) => Box::new(StdoutSink::new(settings.format)),
            Kind::File(settings) => Box::new(File::new(settings)),
            Kind::Exec(settings) => {
                let label = format!("{of}/{}", self.name().unwrap_or("exec"));
                Box::new(Exec::new(label, settings, self.timeout()))
            }
            Kind::Signal(settings) => Box::new(SignalTo::new(settings)),
            Kind::Webhook(settings) => Box::new(Webhook::new(settings)?),
            Kind::Template(settings) => Box::new(Template::new(&settings)?),
        })
    }

    /// How a worker goes about it; `wait` is that of the group that it is in.
    #[must_use]
    pub fn worker(&self, wait: Option<&WaitSettings>) -> WorkerSettings {
        let has_effects = matches!(self.kind, Kind::Exec(_) | Kind::Signal(_));
        let timeout = match &self.kind {
            // It has a deadline of its own, and some time to end after that.
            Kind::Exec(exec) => self.timeout() + exec.kill_after.0 + Duration::from_secs(5),
            _ => self.timeout(),
        };
        WorkerSettings {
            timeout,
            retries: self.common.retries.unwrap_or(10),
            retry_later: match self.common.retry_later {
                Some(later) => Some(later.0),
                None => (!has_effects).then_some(RETRY_LATER),
            },
            on_removed: self.common.on_removed.unwrap_or_default(),
            wait: wait.copied(),
            // Not as it is: there may be secrets in it.
            fingerprint: Update::new(Vec::new())
                .digest(&Value::from(self.fields()).to_string())
                .to_string(),
        }
    }

    fn timeout(&self) -> Duration {
        self.common.timeout.map_or(TIMEOUT, |time| time.0)
    }

    /// What belongs to its type, with that.
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
        all.insert(TYPE.into(), self.kind().into());
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

/// The fields are handed on as they come, so that whoever reads a file can say where a mistake is. serde's
/// own way (`tag`, `flatten`) takes all of them in first, and forgets where they were.
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
            if key == TYPE {
                name = Some(map.next_value::<Name>()?);
                break;
            }
            before.push_back((key, map.next_value::<Value>()?));
        }
        let name = name.ok_or_else(|| de::Error::missing_field(TYPE))?;
        let mut common = Common::default();
        let rest =
            MapAccessDeserializer::new(Rest { before, map, common: &mut common, value: None });
        let kind = match name {
            Name::Stdout => Kind::Stdout(Deserialize::deserialize(rest)?),
            Name::File => Kind::File(Deserialize::deserialize(rest)?),
            Name::Exec => Kind::Exec(Deserialize::deserialize(rest)?),
            Name::Signal => Kind::Signal(Deserialize::deserialize(rest)?),
            Name::Webhook => Kind::Webhook(Deserialize::deserialize(rest)?),
            Name::Template => Kind::Template(Deserialize::deserialize(rest)?),
        };
        Ok(SinkSettings { common, kind })
    }
}

/// What comes besides `type`. What all have in common is taken out on the way.
struct Rest<'a, A> {
    /// What came before `type`,
    before: VecDeque<(String, Value)>,
    /// and after it.
    map: A,
    common: &'a mut Common,
    value: Option<(String, Value)>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some((key, value)) = self.before.pop_front() {
            if COMMON.contains(&key.as_str()) {
                let wrong = |error| de::Error::custom(format_args!("`{key}`: {error}"));
                self.common.set::<_, serde_json::Error>(&key, value.clone()).map_err(wrong)?;
                continue;
            }
            let known = seed.deserialize(key.as_str().into_deserializer());
            self.value = Some((key, value));
            return known.map(Some).map_err(with_common);
        }
        let mut seed = Some(seed);
        loop {
            let key = Key { seed: &mut seed, _de: PhantomData };
            match self.map.next_key_seed(key)? {
                None => return Ok(None),
                Some(Either::Kind(key)) => return Ok(Some(key)),
                Some(Either::Common(key)) => {
                    let field = Field { key, common: self.common };
                    self.map.next_value_seed(field)?;
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.value.take() {
            Some((key, value)) => seed
                .deserialize(value)
                .map_err(|error| de::Error::custom(format_args!("`{key}`: {error}"))),
            None => self.map.next_value_seed(seed),
        }
    }
}

/// A name that nobody knows is told with all that there are.
fn with_common<E: de::Error>(error: E) -> E {
    let error = error.to_string();
    if !error.starts_with("unknown field") {
        return E::custom(error);
    }
    E::custom(format_args!("{error}, `{}`", COMMON.join("`, `")))
}

/// A key, which is one of all sinks, or of the kind.
struct Key<'a, 'de, K> {
    seed: &'a mut Option<K>,
    _de: PhantomData<&'de ()>,
}

enum Either<K> {
    Common(&'static str),
    Kind(K),
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, 'de, K> {
    type Value = Either<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        if let Some(common) = COMMON.into_iter().find(|common| *common == key) {
            return Ok(Either::Common(common));
        }
        let seed = self.seed.take().ok_or_else(|| de::Error::custom("asked twice"))?;
        seed.deserialize(key.as_str().into_deserializer()).map(Either::Kind).map_err(with_common)
    }
}

/// The value of a key that all sinks have.
struct Field<'a> {
    key: &'static str,
    common: &'a mut Common,
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.common.set(self.key, deserializer)
    }
}

impl Common {
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
            schema["properties"][TYPE] = serde_json::json!({ "const": name });
            if let (Some(all), Some(own)) = (
                common.get("properties").and_then(Value::as_object),
                schema["properties"].as_object_mut(),
            ) {
                own.extend(all.clone());
            }
            match schema["required"].as_array_mut() {
                Some(required) => required.insert(0, TYPE.into()),
                None => schema["required"] = serde_json::json!([TYPE]),
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
        json_schema!({ "type": "object", "required": [TYPE], "oneOf": kinds })
    }
}
