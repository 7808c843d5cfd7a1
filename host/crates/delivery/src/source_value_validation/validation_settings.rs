//! Settings of the validation of a source's values.

use super::{
    command_validator::{CommandValidator, Input},
    document_syntax::DocumentFormat,
    percentage::Percentage,
    size_guards::SizeGuards,
    syntax_validator::{SyntaxCheck, SyntaxRules},
};
use crate::process::{
    command_line::CommandLine, command_settings::CommandSettings, output_log::OutputLimit,
};
use reloader_source::{
    decode::Format,
    validator::{FnValidator, VALIDATION_TIMEOUT, Validator, ValidatorChain},
};
use reloader_util::units::{Size, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// Checks of a new value before it is published. A rejected value is kept with the reason, and the last
/// good value stays published.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ValidateSettings {
    /// Rejects a value that is empty or only white space. If `parse` or `schema` is set, also rejects an
    /// empty table, an empty list and `null`. Default: `false`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not_empty: bool,
    /// Maximum size of a value. Default: the limit `value` of the source's plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    /// Rejects a value that is smaller than the last good value by more than this share of its bytes,
    /// e.g. `50%`. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_shrink: Option<Percentage>,
    /// Rejects a value that cannot be parsed in this format. Default: the format of the media type if
    /// `schema` is set; otherwise values are not parsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parse: Option<DocumentFormat>,
    /// Path of a JSON Schema for the parsed value. Changes of the file are detected; references to
    /// other documents are not followed. The check stops at the first error. The value is rejected if the
    /// check exceeds the limit `call-cpu` or its memory limit. The memory limit is 24 MiB plus 16 bytes for
    /// each byte of the value and 48 bytes for each byte of the schema, at most 128 MiB; or the limit
    /// `memory` if `memory` is higher. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
    /// Validator plugin (world `validator`), by name or path. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Settings of the validator plugin. Default: none.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// Command that accepts the value with exit status 0: a list is a program and its arguments, run
    /// without a shell; a string is run by `/bin/sh -c`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandLine>,
    /// Input of the command: the value on standard input (`stdin`), or as a private file (`file`).
    /// The path of the file replaces `{file}` in the list and is in the environment variable `RELOADER_FILE`. The
    /// last good value is in the same directory, in a file named `before`. Default: `file` if the command
    /// uses `{file}` or `RELOADER_FILE`, otherwise `stdin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// Working directory of the command. Default: the working directory of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Environment variables of the command, in addition to those of the host. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Timeout of each check. A check that times out is retried with backoff. Default: `10s`.
    pub timeout: Time,
}

/// Validators that run as plugins. The plugin runtime supplies them.
#[derive(Clone, Default)]
pub struct PluginValidators {
    /// Validator that calls the plugin [`ValidateSettings::plugin`].
    pub plugin: Option<Arc<dyn Validator>>,
    /// Validator that checks values against the JSON Schema [`ValidateSettings::schema`].
    pub schema: Option<Arc<dyn Validator>>,
}

impl Default for ValidateSettings {
    /// Returns settings without any check.
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
            timeout: Time(VALIDATION_TIMEOUT),
        }
    }
}

impl ValidateSettings {
    /// Returns an error message for each conflict between these settings.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.plugin.is_none() && !self.config.is_empty() {
            problems.push("`config` requires `plugin`".into());
        }
        let command_settings = [
            ("input", self.input.is_some()),
            ("directory", self.directory.is_some()),
            ("env", !self.env.is_empty()),
        ];
        for (name, _) in command_settings.into_iter().filter(|(_, is_set)| *is_set) {
            if self.command.is_none() {
                problems.push(format!("`{name}` requires `command`"));
            }
        }
        if self.input == Some(Input::Stdin) && self.uses_file() {
            problems.push("`command` uses a file, but `input` is `stdin`".into());
        }
        if self.schema.is_some() && self.parse == Some(DocumentFormat::Utf8) {
            problems.push("`schema` requires JSON, TOML or YAML, but `parse` is `utf8`".into());
        }
        problems
    }

    /// Returns the validator that performs all checks of these settings, cheapest first; `None` if
    /// there are no checks.
    ///
    /// All values are rejected if the settings name a schema or a plugin that `plugins` does not
    /// contain.
    #[must_use]
    pub fn validator(&self, plugins: PluginValidators) -> Option<Arc<dyn Validator>> {
        let mut checks: Vec<Arc<dyn Validator>> = Vec::new();
        let &Self { not_empty, max_size, max_shrink, parse, .. } = self;
        if not_empty || max_size.is_some() || max_shrink.is_some() {
            checks.push(Arc::new(SizeGuards { not_empty, max_size, max_shrink }));
        }
        match (&self.schema, parse) {
            // The schema validator also checks the syntax, so no separate syntax check is added.
            (Some(path), _) => {
                let name = path.display().to_string();
                checks.push(plugins.schema.unwrap_or_else(|| missing_validator(&name)));
            }
            (None, Some(format)) => {
                let rules = SyntaxRules { format, not_empty };
                checks.push(Arc::new(SyntaxCheck::new(rules, self.timeout.0)));
            }
            (None, None) => {}
        }
        checks.extend(plugins.plugin.or_else(|| self.plugin.as_deref().map(missing_validator)));
        if let Some(command) = &self.command {
            let settings = CommandSettings {
                timeout: self.timeout,
                directory: self.directory.clone(),
                env: self.env.clone(),
                ..CommandSettings::new(command.clone())
            };
            let by_default = if self.uses_file() { Input::File } else { Input::Stdin };
            let input = self.input.unwrap_or(by_default);
            let output_limit = OutputLimit::default();
            let command = CommandValidator { settings, input, format: parse, output_limit };
            checks.push(Arc::new(command));
        }
        (!checks.is_empty()).then(|| Arc::new(ValidatorChain(checks)) as _)
    }

    /// Returns the configured format for the schema check; `None` selects it by the media type.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        self.parse.and_then(DocumentFormat::format)
    }

    /// Returns whether the command contains `{file}` (list) or `RELOADER_FILE` (string for the shell).
    fn uses_file(&self) -> bool {
        match &self.command {
            Some(CommandLine::Program(words)) => words.iter().any(|word| word.contains("{file}")),
            Some(CommandLine::Shell(text)) => text.contains("RELOADER_FILE"),
            None => false,
        }
    }
}

/// Returns a validator that rejects all values, as a replacement for a validator that is not available.
fn missing_validator(plugin: &str) -> Arc<dyn Validator> {
    let reason = format!("no validator available for `{plugin}`");
    Arc::new(FnValidator(Arc::new(move |_| Err(reason.clone()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<ValidateSettings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn settings_round_trip() {
        let text = r#"
            not-empty = true
            max-size = "1MiB"
            max-shrink = "50%"
            parse = "yaml"
            schema = "app.schema.json"
            plugin = "number-range"
            config = { required = ["port"] }
            command = ["nginx", "-t", "-c", "{file}"]
            timeout = "3s"
        "#;
        let read = settings(text).expect("valid settings");
        assert_eq!(read.max_shrink, "50%".parse().ok());
        let written = toml::to_string(&read).expect("serializable settings");
        assert_eq!(settings(&written), Ok(read));
        assert!(
            settings("").expect("empty settings").validator(PluginValidators::default()).is_none(),
            "no checks"
        );
    }

    /// The error of an invalid setting says what is expected.
    #[test]
    fn invalid_settings_name_the_expectation() {
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
    fn conflicts_are_reported_together() {
        let text = "config = { a = 1 }\nenv = { A = 'b' }\nparse = 'utf8'\nschema = '/nowhere'";
        let problems = settings(text).expect("settings without syntax errors").problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
        let text = "command = ['check', '{file}']\ninput = 'stdin'";
        let problems = settings(text).expect("settings without syntax errors").problems();
        assert_eq!(problems, ["`command` uses a file, but `input` is `stdin`"]);
    }
}
