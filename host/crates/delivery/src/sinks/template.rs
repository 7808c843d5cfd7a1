//! Sink that renders a template to a file.

use super::{
    file_settings::file_sink_settings,
    sink_file::Target,
    template_engine::{Delimiters, environment},
    template_file::{TemplateFile, read_template},
    template_includes::Includes,
    template_rendering::{INLINE_NAME, Rendering, explain, on_large_stack},
    template_variables::{Parse, SINGLE_SOURCE_VARIABLES},
};
use crate::{
    delivery_values::Update,
    preflight_warning::PreflightWarning,
    serial_blocking_jobs::BlockingOperation,
    sink::{Delivered, ExternalChange, FileContent, Sink, SinkError},
    worker_settings::DEFAULT_TIMEOUT,
};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use minijinja::Environment;
use reloader_fs_watch::FileFingerprint;
use reloader_util::blocking_pool::BlockingError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fmt::Display,
    future::pending,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

file_sink_settings! {
    /// Settings of a file that is rendered from the values of one or several sources, with the template
    /// engine minijinja (Jinja2 syntax).
    pub struct TemplateSettings {
        /// Template text. `{{ value }}` is the value of the only source; `{{ NAME }}` or
        /// `{{ sources["NAME"].value }}` is the value of a source by name. Further variables are `text`,
        /// `base64`, `revision`, `media_type` and `at`. An undefined variable is an error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub template: Option<String> = None,
        /// Path of a template file, as an alternative to `template`. It is read for each delivery, and
        /// rendered again when it is saved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub template_file: Option<PathBuf> = None,
        /// Format in which values are parsed: `auto` selects it by the media type; a value without a
        /// known media type is text. Default: `auto`.
        #[serde(default)]
        pub parse: Parse = Parse::default(),
        /// Start and end of an expression, for files that contain `{{`, such as `["[[", "]]"]`.
        /// Default: `["{{", "}}"]`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub delimiters: Option<(String, String)> = None,
    }
}

impl TemplateSettings {
    /// Returns the default settings for the template text `template` and the output file `path`.
    pub fn new(template: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { template: Some(template.into()), ..Self::at_path(path.into()) }
    }

    /// Returns the default settings for the template file `template` and the output file `path`.
    pub fn from_file(template: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Self {
        Self { template_file: Some(template.into()), ..Self::at_path(path.into()) }
    }

    /// Returns the problems of the output file, of the template's syntax and of its variables.
    pub(crate) fn preflight(&self, sources: &[String]) -> Vec<PreflightWarning> {
        let mut warnings = self.target().preflight();
        let (key, text) = match (&self.template, &self.template_file) {
            (Some(text), _) => ("template", Text::Inline(text.as_str().into())),
            (None, Some(path)) => ("template-file", Text::file(path)),
            (None, None) => return warnings,
        };
        let checked = text.read().and_then(|(name, text)| {
            let environment = self.environment()?;
            let template = environment.template_from_named_str(&name, &text);
            let template = template.map_err(|error| SinkError::transient(explain(&error)))?;
            let own: &[&str] = if sources.len() == 1 { &SINGLE_SOURCE_VARIABLES } else { &[] };
            let is_source = |name: &str| sources.iter().any(|source| source == name);
            let is_defined = |name: &str| is_source(name) || own.contains(&name);
            Ok(undefined_variables(&environment, &template, is_defined))
        });
        match checked {
            Err(error) => warnings.push((key, error.message)),
            Ok(undefined) if undefined.is_empty() => {}
            Ok(undefined) => {
                let noun = if undefined.len() == 1 { "variable" } else { "variables" };
                let (undefined, available) = (quoted_list(&undefined), quoted_list(sources));
                warnings.push((key, format!("unknown {noun} {undefined}; available: {available}")));
            }
        }
        warnings
    }

    /// Returns the engine for a check of the template.
    fn environment(&self) -> Result<Environment<'static>, SinkError> {
        environment(self.delimiters.as_ref(), Timestamp::UNIX_EPOCH)
            .map_err(|error| SinkError::permanent(format!("`delimiters`: {error}")))
    }
}

/// Sink that renders a template to a file.
#[derive(Debug)]
pub struct Template {
    text: Text,
    parse: Parse,
    delimiters: Option<Delimiters>,
    target: Target,
}

/// Text of a template: inline, or in a file.
#[derive(Debug)]
enum Text {
    Inline(Arc<str>),
    /// File that is watched for changes, and the files that it includes.
    File(Box<TemplateFile>, Arc<Includes>),
}

impl Template {
    /// Returns a sink with these settings. A template file is read at each delivery.
    ///
    /// # Errors
    ///
    /// Returns an error if the settings have neither or both of `template` and `template_file`, or if an
    /// inline template has a syntax error.
    pub fn new(settings: &TemplateSettings) -> Result<Self, SinkError> {
        Self::named("template", settings, DEFAULT_TIMEOUT)
    }

    /// Returns a sink. `label` is its name in the log of its check, and `timeout` is the timeout of the check.
    pub(crate) fn named(
        label: &str,
        settings: &TemplateSettings,
        timeout: Duration,
    ) -> Result<Self, SinkError> {
        let text = match (&settings.template, &settings.template_file) {
            (Some(text), None) => Text::Inline(text.as_str().into()),
            (None, Some(path)) => Text::file(path),
            _ => {
                let expected = "expected either `template` or `template-file`";
                return Err(SinkError::permanent(expected));
            }
        };
        let environment = settings.environment()?;
        if let Text::Inline(text) = &text {
            let compiled = environment.template_from_named_str(INLINE_NAME, text);
            compiled.map_err(|error| SinkError::permanent(explain(&error)))?;
        }
        let (parse, delimiters) = (settings.parse, settings.delimiters.clone());
        Ok(Self { text, parse, delimiters, target: Target::new(settings.target(), label, timeout) })
    }
}

#[async_trait]
impl Sink for Template {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        self.target.write(self.preview(update).await?).await
    }

    async fn preview(&self, update: &Update) -> Result<Option<Bytes>, SinkError> {
        if update.event() == "removed" {
            return Ok(None);
        }
        let failed = |error: BlockingError| SinkError::transient(error.to_string());
        let (name, text) = match &self.text {
            Text::Inline(text) => (INLINE_NAME.to_owned(), Arc::clone(text)),
            Text::File(file, includes) => {
                includes.clear();
                let path = file.path().to_owned();
                let reading = BlockingOperation::on_file("reading", &path);
                let read = self.target.run(reading, move || {
                    // Taken before the read, so that a change during the read is detected later.
                    (FileFingerprint::read(&path), read_template(&path))
                });
                let (fingerprint, text) = read.await.map_err(failed)?;
                file.set_read(fingerprint);
                text?
            }
        };
        let rendering = BlockingOperation::new(
            format!("rendering `{name}`"),
            "the template may need a long computation",
        );
        let rendering_of = Rendering {
            name,
            text,
            includes: self.text.includes(),
            parse: self.parse,
            delimiters: self.delimiters.clone(),
            update: update.clone(),
        };
        let job = move || on_large_stack(move |max_steps| rendering_of.render(max_steps));
        let rendered = self.target.run(rendering, job).await.map_err(failed)??;
        Ok(Some(Bytes::from(rendered)))
    }

    fn detects_unchanged(&self) -> bool {
        true
    }

    fn blocking_operation(&self) -> Option<BlockingOperation> {
        self.target.blocking_operation()
    }

    fn repair_interval(&self) -> Option<Duration> {
        self.target.repair_interval()
    }

    fn file_content(&self) -> Option<FileContent> {
        self.target.content()
    }

    async fn input_changed(&self) {
        match &self.text {
            Text::Inline(_) => pending().await,
            Text::File(file, includes) => {
                tokio::select! {
                    () = file.changed() => {}
                    () = includes.changed() => {}
                }
            }
        }
    }

    async fn external_change(&self) -> Option<ExternalChange> {
        self.target.external_change().await
    }
}

impl Text {
    fn file(path: &Path) -> Self {
        Self::File(Box::new(TemplateFile::new(path)), Arc::new(Includes::of(path)))
    }

    /// Returns the included files; `None` for an inline template, which includes none.
    fn includes(&self) -> Option<Arc<Includes>> {
        match self {
            Self::Inline(_) => None,
            Self::File(_, includes) => Some(Arc::clone(includes)),
        }
    }

    /// Returns the name and the text of the template.
    fn read(&self) -> Result<(String, Arc<str>), SinkError> {
        match self {
            Self::Inline(text) => Ok((INLINE_NAME.to_owned(), Arc::clone(text))),
            Self::File(file, _) => read_template(file.path()),
        }
    }
}

/// Returns the undefined variables of a template, sorted.
fn undefined_variables(
    environment: &Environment<'_>,
    template: &minijinja::Template<'_, '_>,
    is_defined: impl Fn(&str) -> bool,
) -> Vec<String> {
    let is_global = |name: &str| environment.globals().any(|(global, _)| global == name);
    let mut names: Vec<_> = template.undeclared_variables(false).into_iter().collect();
    names.retain(|name| name != "sources" && !is_global(name) && !is_defined(name));
    names.sort_unstable();
    names
}

/// Formats names for a message: in backquotes, separated by commas.
fn quoted_list<T: Display>(names: &[T]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_error_is_rejected_at_construction() {
        let error = Template::new(&TemplateSettings::new("a\n{% if %}", "/x")).unwrap_err();
        assert!(error.message.starts_with("`template`, line 2: syntax error"), "{error}");
        assert_eq!(error.retry, crate::Retry::No);
        let neither = TemplateSettings { template: None, ..TemplateSettings::new("", "/x") };
        assert!(Template::new(&neither).unwrap_err().message.contains("`template-file`"));
    }
}
