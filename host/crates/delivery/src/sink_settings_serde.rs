//! Deserialization and JSON Schema of [`SinkSettings`]: one table contains the common keys and the keys of the
//! sink's type.
//!
//! The serde attributes `tag` and `flatten` would buffer the whole table. An error about a key would
//! then lose its place in the file, and an error about an unknown key would list only some of the valid
//! keys.

use crate::{
    sink_settings::{CommonSettings, SinkKind, SinkSettings},
    sinks::{
        exec::ExecSettings, file::FileSettings, signal::SignalSettings, stdout::StdoutSettings,
        template::TemplateSettings, webhook::WebhookSettings,
    },
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IntoDeserializer, MapAccess, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};
use std::{borrow::Cow, convert::Infallible, fmt};

/// Key that selects the type of a sink in its configuration table.
const TYPE_KEY: &str = "type";
/// Keys that all types of sinks accept: the fields of [`CommonSettings`].
const COMMON_KEYS: [&str; 5] = ["name", "timeout", "retries", "retry-later", "on-removed"];

/// Values of the key `type`: the names of the sink types.
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

impl<'de> Deserialize<'de> for SinkSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SinkVisitor)
    }
}

struct SinkVisitor;

impl<'de> de::Visitor<'de> for SinkVisitor {
    type Value = SinkSettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with a `type`")
    }

    /// Reads the keys in the order of the input if `type` is the first one. Otherwise, the table is
    /// buffered and read again with `type` as its first key.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SinkSettings, A::Error> {
        let mut buffered = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == TYPE_KEY && buffered.is_empty() {
                return sink_of_type(map.next_value()?, map);
            }
            buffered.insert(key, map.next_value()?);
        }
        let kind = buffered.remove(TYPE_KEY).ok_or_else(|| de::Error::missing_field(TYPE_KEY))?;
        buffered.shift_insert(0, TYPE_KEY.into(), kind);
        serde_path_to_error::deserialize(Value::Object(buffered)).map_err(|error| {
            let (path, error) = (error.path().to_string(), error.inner().to_string());
            // The message gets the key as a prefix, except if the message already names the key (unknown field), or if
            // the error concerns the whole table (missing field).
            let is_named = error.contains(&format!("`{path}`")) || path == ".";
            de::Error::custom(if is_named { error } else { format!("`{path}`: {error}") })
        })
    }
}

/// Reads the keys that follow `type`, and returns the settings.
fn sink_of_type<'de, A: MapAccess<'de>>(name: TypeName, map: A) -> Result<SinkSettings, A::Error> {
    let mut common = CommonSettings::default();
    let keys = MapAccessDeserializer::new(TypeKeys { map, common: &mut common });
    let kind = match name {
        TypeName::Stdout => SinkKind::Stdout(Deserialize::deserialize(keys)?),
        TypeName::File => SinkKind::File(Deserialize::deserialize(keys)?),
        TypeName::Exec => SinkKind::Exec(Deserialize::deserialize(keys)?),
        TypeName::Signal => SinkKind::Signal(Deserialize::deserialize(keys)?),
        TypeName::Webhook => SinkKind::Webhook(Deserialize::deserialize(keys)?),
        TypeName::Template => SinkKind::Template(Deserialize::deserialize(keys)?),
    };
    Ok(SinkSettings { common, kind })
}

/// Map access that passes on only the keys of the type. It stores the values of the common keys in `common`.
struct TypeKeys<'a, A> {
    map: A,
    common: &'a mut CommonSettings,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for TypeKeys<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if COMMON_KEYS.contains(&key.as_str()) {
                self.map.next_value_seed(CommonValue { key: &key, common: self.common })?;
                continue;
            }
            let field: Result<_, A::Error> = seed.deserialize(key.as_str().into_deserializer());
            return match field {
                Ok(field) => Ok(Some(field)),
                // Fails while the value is read, not the key: only then does `serde_path_to_error` add the key to the
                // path of the error.
                Err(unknown) => {
                    let unknown = UnknownKey(unknown.to_string());
                    self.map.next_value_seed(unknown).map(|never| match never {})
                }
            };
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Seed for the value of a common key.
struct CommonValue<'a> {
    key: &'a str,
    common: &'a mut CommonSettings,
}

impl<'de> DeserializeSeed<'de> for CommonValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        let CommonSettings { name, timeout, retries, retry_later, on_removed } = self.common;
        match self.key {
            "name" => *name = Deserialize::deserialize(value)?,
            "timeout" => *timeout = Deserialize::deserialize(value)?,
            "retries" => *retries = Deserialize::deserialize(value)?,
            "retry-later" => *retry_later = Deserialize::deserialize(value)?,
            "on-removed" => *on_removed = Deserialize::deserialize(value)?,
            other => return Err(de::Error::unknown_field(other, &COMMON_KEYS)),
        }
        Ok(())
    }
}

/// Seed that fails with the error about an unknown key, and adds the common keys to the list of expected keys.
struct UnknownKey(String);

impl<'de> DeserializeSeed<'de> for UnknownKey {
    type Value = Infallible;

    fn deserialize<D: Deserializer<'de>>(self, _: D) -> Result<Self::Value, D::Error> {
        let Self(error) = self;
        Err(de::Error::custom(format_args!("{error}, `{}`", COMMON_KEYS.join("`, `"))))
    }
}

impl JsonSchema for SinkSettings {
    fn schema_name() -> Cow<'static, str> {
        "Sink".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let common = CommonSettings::json_schema(generator);
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
