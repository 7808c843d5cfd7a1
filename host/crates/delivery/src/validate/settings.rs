//! The checks of a source's values, as an operator writes them.

use super::{
    Form,
    command::Command,
    content_check::{Content, Rules},
    guards::Guards,
};
use crate::process::{CommandLine, CommandSettings};
use reloader_source::{
    decode::Format,
    validator::{FnValidator, TIME_LIMIT, Validator, ValidatorChain},
};
use reloader_util::units::{Size, Time};
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::BTreeMap, fmt, path::PathBuf, str::FromStr, sync::Arc};

/// What a new value has to pass before it is let through. A value that is refused is kept with the
/// reason, and the last good one stays.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ValidateSettings {
    /// Refuse a value that is empty, or white space; if it is parsed, also an empty table or list, and
    /// `null`. Default: `false`.
    #[serde(skip_serializing_if = "is_false")]
    pub not_empty: bool,
    /// Refuse a value that is larger. Default: as large as the plugin may deliver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    /// Refuse a value that has lost more than this share of the last good one's bytes, e.g. `50%`.
    /// Default: values may shrink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_shrink: Option<Share>,
    /// Refuse a value that cannot be parsed as this. Default: what its media type says, if there is a
    /// `schema`; otherwise values are not parsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parse: Option<Form>,
    /// The path of a JSON Schema that the parsed value has to fit. The file may change; references to
    /// other documents are not followed. The check ends at the first error, or when it exceeds its memory
    /// (24 MiB, 16 bytes for each byte of the value and 48 for each byte of the schema, at most 128 MiB; or
    /// the limit `memory`, if that is higher) or the limit `call-cpu`; the value is refused then. Default:
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
    /// A plugin of the world `validator`, by name or path, that is asked. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The settings of that plugin. Default: none.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// A command that accepts the value by ending with status 0: a list is a program and its arguments,
    /// run without a shell; a text is run by `/bin/sh -c`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandLine>,
    /// How the command gets the value: on its standard input (`stdin`), or in a private file (`file`),
    /// whose path stands for `{file}` in the list and is in the variable `RELOADER_FILE`; the last good
    /// value is beside it, in a file that is named `before`. Default: `file` if the command mentions one of
    /// the two, otherwise `stdin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// The directory that the command runs in. Default: the host's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Variables of the command's environment, besides those of the host. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What each check may take. One that takes longer is made again later. Default: `10s`.
    pub timeout: Time,
}

/// How a command gets the value that it checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// On its standard input.
    Stdin,
    /// In a file.
    File,
}

/// Validators that run as plugins. The plugin runtime supplies them.
#[derive(Clone, Default)]
pub struct PluginValidators {
    /// Runs [`ValidateSettings::plugin`].
    pub plugin: Option<Arc<dyn Validator>>,
    /// Checks values against [`ValidateSettings::schema`].
    pub schema: Option<Arc<dyn Validator>>,
}

impl Default for ValidateSettings {
    /// Lets everything through.
    fn default() -> Self {
        Self {
            not_empty: false,
            max_size: None,
            max_shrink: None,
            parse: None,
            schema: None,
            plugin: None,
            config: Map::new(),
            command: None,
            input: None,
            directory: None,
            env: BTreeMap::new(),
            timeout: Time(TIME_LIMIT),
        }
    }
}

impl ValidateSettings {
    /// All that cannot work, in words: settings that do not go together.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.plugin.is_none() && !self.config.is_empty() {
            problems.push("`config` is for a `plugin`, and none is named".into());
        }
        let of_command = [
            ("input", self.input.is_some()),
            ("directory", self.directory.is_some()),
            ("env", !self.env.is_empty()),
        ];
        for (name, _) in of_command.into_iter().filter(|(_, is_set)| *is_set) {
            if self.command.is_none() {
                problems.push(format!("`{name}` is for a `command`, and there is none"));
            }
        }
        if self.input == Some(Input::Stdin) && self.mentions_file() {
            problems.push("the `command` mentions a file, but `input` is `stdin`".into());
        }
        if self.schema.is_some() && self.parse == Some(Form::Utf8) {
            problems.push("a `schema` is for JSON, TOML or YAML, but `parse` is `utf8`".into());
        }
        problems
    }

    /// Returns the validator that performs all checks of these settings, cheapest first; `None` if there are
    /// none.
    ///
    /// If the settings name a schema or a plugin, and `plugins` has no validator for it, all values are
    /// rejected.
    #[must_use]
    pub fn judge(&self, plugins: PluginValidators) -> Option<Arc<dyn Validator>> {
        let mut checks: Vec<Arc<dyn Validator>> = Vec::new();
        let &Self { not_empty, max_size, max_shrink, parse, .. } = self;
        if not_empty || max_size.is_some() || max_shrink.is_some() {
            checks.push(Arc::new(Guards { not_empty, max_size, max_shrink }));
        }
        match (&self.schema, parse) {
            // Parses the value, too.
            (Some(path), _) => {
                let name = path.display().to_string();
                checks.push(plugins.schema.unwrap_or_else(|| not_supplied(&name)));
            }
            (None, Some(form)) => {
                let rules = Rules { form, not_empty };
                checks.push(Arc::new(Content::new(rules, self.timeout.0)));
            }
            (None, None) => {}
        }
        checks.extend(plugins.plugin.or_else(|| self.plugin.as_deref().map(not_supplied)));
        if let Some(command) = &self.command {
            let settings = CommandSettings {
                timeout: self.timeout,
                directory: self.directory.clone(),
                env: self.env.clone(),
                ..CommandSettings::new(command.clone())
            };
            let by_default = if self.mentions_file() { Input::File } else { Input::Stdin };
            let input = self.input.unwrap_or(by_default);
            checks.push(Arc::new(Command { settings, input, form: parse }));
        }
        (!checks.is_empty()).then(|| Arc::new(ValidatorChain(checks)) as _)
    }

    /// Returns the format of the values that a schema is checked on; `None` for the one of their media
    /// type.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        self.parse.and_then(Form::format)
    }

    fn mentions_file(&self) -> bool {
        match &self.command {
            Some(CommandLine::Program(words)) => words.iter().any(|word| word.contains("{file}")),
            Some(CommandLine::Shell(text)) => text.contains("RELOADER_FILE"),
            None => false,
        }
    }
}

/// Returns a validator that rejects all values, in place of one that is not supplied.
fn not_supplied(plugin: &str) -> Arc<dyn Validator> {
    let reason = format!("no validator runs `{plugin}`, which the settings name");
    Arc::new(FnValidator(Arc::new(move |_| Err(reason.clone()))))
}

fn is_false(it: &bool) -> bool {
    !it
}

/// A part of something, in whole percent: `50%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u8);

impl Share {
    /// Whether more than this is gone.
    pub(super) fn is_exceeded(self, before: usize, now: usize) -> bool {
        let (before, now) = (before as u128, now as u128);
        now * 100 < before * u128::from(100 - self.0)
    }
}

/// What was written is not a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a share from `0%` to `99%`, e.g. `50%`")]
pub struct ShareError;

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let number = text.trim().strip_suffix('%').ok_or(ShareError)?;
        number.parse().ok().filter(|percent| *percent < 100).map(Self).ok_or(ShareError)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{1,2}%$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<ValidateSettings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_is_written_is_understood_and_written_again() {
        let text = r#"
            not-empty = true
            max-size = "1MiB"
            max-shrink = "50%"
            parse = "yaml"
            schema = "app.schema.json"
            plugin = "limits-check"
            config = { required = ["port"] }
            command = ["nginx", "-t", "-c", "{file}"]
            timeout = "3s"
        "#;
        let read = settings(text).expect("sound settings");
        assert_eq!(read.max_shrink, Some(Share(50)));
        let written = toml::to_string(&read).expect("they can be written");
        assert_eq!(settings(&written), Ok(read));
        assert!(
            settings("").expect("nothing").judge(PluginValidators::default()).is_none(),
            "there is nothing to ask"
        );
    }

    #[test]
    fn what_cannot_be_understood_says_what_was_expected() {
        for (text, expected) in [
            ("max-shrink = '50'", "expected a share from `0%` to `99%`"),
            ("max-shrink = '100%'", "expected a share"),
            ("parse = 'xml'", "expected one of `json`, `toml`, `yaml`, `utf8`"),
            ("comand = 'x'", "unknown field `comand`"),
            ("input = 'pipe'", "expected `stdin` or `file`"),
        ] {
            let error = settings(text).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_told_all_at_once() {
        let text = "config = { a = 1 }\nenv = { A = 'b' }\nparse = 'utf8'\nschema = '/nowhere'";
        let problems = settings(text).expect("each by itself is sound").problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
        let text = "command = ['check', '{file}']\ninput = 'stdin'";
        let problems = settings(text).expect("each by itself is sound").problems();
        assert_eq!(problems, ["the `command` mentions a file, but `input` is `stdin`"]);
    }
}
