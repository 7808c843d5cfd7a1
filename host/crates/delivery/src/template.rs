//! Files that are rendered from values.

use super::{Delivered, Doubt, Part, Sink, SinkError, Update};
use crate::{
    atomic_write::Target,
    file_settings::{Backup, Mode, TargetSettings, durable},
    template_engine::{MAX_RENDERED_BYTES, Output, check_json, environment},
};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use minijinja::{Environment, Error, Value, context, value::Serde};
use reloader_source::decode::Format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io::Read, path::PathBuf, sync::Arc};

/// A file that is rendered from the values of one source or of several, with the template engine
/// minijinja (the language is that of Jinja2).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TemplateSettings {
    /// The template itself. `{{ value }}` is the value of the only source, `{{ NAME }}` or
    /// `{{ sources["NAME"].value }}` that of a source by name; beside it are `text`, `revision`
    /// and `media_type`. A name that is not there is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Or the file that has it, read again for each change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_file: Option<PathBuf>,
    /// What values are read as: `auto` goes by the media type, and takes what has none for text.
    /// Default: `auto`.
    #[serde(default)]
    pub parse: Parse,
    /// The file that is written. If it is a symbolic link, what it leads to is replaced.
    pub path: PathBuf,
    /// Its permissions in octal, e.g. `"0644"`. Default: those of the file that is there, else `"0600"`:
    /// a value may be a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Whose it is, a name or a number. Default: that of the file that is there, if that is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its group, a name or a number. Default: that of the file that is there, if that is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether the file before is kept: `true` as `<path>.bak`, or a text to append to the path.
    /// Default: `false`.
    #[serde(default, skip_serializing_if = "Backup::is_off")]
    pub backup: Backup,
    /// Writes into the file that is there instead of replacing it, for a file that is mounted by itself.
    /// It is not atomic: a reader may see half of it. Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_place: bool,
    /// Makes the directories that are missing on the way. Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create_directories: bool,
    /// Waits for the disk, so that even after a power failure it is this file or the one before. With
    /// `false` it is seen some milliseconds sooner, and still as a whole. Default: `true`.
    #[serde(default = "durable", skip_serializing_if = "Clone::clone")]
    pub durable: bool,
}

/// What values are read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Parse {
    /// By the media type; as text, if there is none.
    #[default]
    Auto,
    /// JSON.
    Json,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
    /// Not at all.
    Text,
}

impl TemplateSettings {
    /// This template, written to this file, with all else as it is by default.
    pub fn new(template: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { template: Some(template.into()), ..Self::without(path) }
    }

    /// The template in a file, written to this one, with all else as it is by default.
    pub fn from_file(template: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Self {
        Self { template_file: Some(template.into()), ..Self::without(path) }
    }

    fn without(path: impl Into<PathBuf>) -> Self {
        Self {
            template: None,
            template_file: None,
            parse: Parse::default(),
            path: path.into(),
            mode: None,
            owner: None,
            group: None,
            backup: Backup::Off,
            in_place: false,
            create_directories: false,
            durable: durable(),
        }
    }

    pub(crate) fn doubts(&self, sources: &[&str]) -> Vec<Doubt> {
        let mut doubts = self.target().doubts();
        let (key, text) = match (&self.template, &self.template_file) {
            (Some(text), _) => ("template", Text::Given(text.as_str().into())),
            (None, Some(path)) => ("template-file", Text::File(path.clone())),
            (None, None) => return doubts,
        };
        let looked_at = text.read().and_then(|(name, text)| {
            let environment = environment();
            let template = environment.template_from_named_str(&name, &text);
            let template = template.map_err(|error| SinkError::passing(explain(&error)))?;
            let own: &[&str] = if sources.len() == 1 { &OF_ONE } else { &[] };
            let is_there = |name: &str| sources.contains(&name) || own.contains(&name);
            Ok(unknown(&environment, &template, is_there))
        });
        match looked_at {
            Err(error) => doubts.push((key, error.message)),
            Ok(unknown) => doubts.extend(unknown.map(|unknown| {
                let there: Vec<_> = sources.iter().map(|name| format!("`{name}`")).collect();
                (key, format!("{unknown}; there is {}", there.join(", ")))
            })),
        }
        doubts
    }

    fn target(&self) -> TargetSettings {
        TargetSettings {
            path: self.path.clone(),
            mode: self.mode,
            owner: self.owner.clone(),
            group: self.group.clone(),
            backup: self.backup.clone(),
            in_place: self.in_place,
            create_directories: self.create_directories,
            durable: self.durable,
        }
    }
}

/// A file that is rendered from values.
#[derive(Debug)]
pub struct Template {
    text: Text,
    parse: Parse,
    target: Target,
}

#[derive(Debug, Clone)]
enum Text {
    Given(Arc<str>),
    File(PathBuf),
}

/// A template may be so long, in bytes.
const TEMPLATE_MAX: u64 = 4 << 20;
/// How an inline template is called.
const INLINE: &str = "template";

impl Template {
    /// With these settings. A template in a file is read when it is rendered.
    ///
    /// # Errors
    ///
    /// When there are none or two templates, or it is not one: the line, and what is wrong there.
    pub fn new(settings: &TemplateSettings) -> Result<Self, SinkError> {
        let text = match (&settings.template, &settings.template_file) {
            (Some(text), None) => Text::Given(text.as_str().into()),
            (None, Some(path)) => Text::File(path.clone()),
            _ => {
                let expected = "expected either `template` or `template-file`";
                return Err(SinkError::lasting(expected));
            }
        };
        if let Text::Given(text) = &text {
            let environment = environment();
            let compiled = environment.template_from_named_str(INLINE, text);
            compiled.map_err(|error| SinkError::lasting(explain(&error)))?;
        }
        Ok(Self { text, parse: settings.parse, target: Target::new(settings.target()) })
    }
}

#[async_trait]
impl Sink for Template {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        if update.event() == "removed" {
            return self.target.write(None).await;
        }
        let (text, parse, update) = (self.text.clone(), self.parse, update.clone());
        let rendering = tokio::task::spawn_blocking(move || text.render(parse, &update)).await;
        let rendered = rendering.map_err(|error| SinkError::lasting(error.to_string()))??;
        self.target.write(Some(Bytes::from(rendered))).await
    }

    fn looks_itself(&self) -> bool {
        true
    }
}

impl Text {
    /// What it is called, and what it says.
    fn read(&self) -> Result<(String, String), SinkError> {
        let path = match self {
            Self::Given(text) => return Ok((INLINE.to_owned(), text.to_string())),
            Self::File(path) => path,
        };
        let name = path.display().to_string();
        let failed = |error| SinkError::passing(format!("`{name}` cannot be read: {error}"));
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(SinkError::passing(format!("`{name}` is not a file")));
        }
        let mut text = String::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(TEMPLATE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > TEMPLATE_MAX {
            let limit = TEMPLATE_MAX >> 20;
            return Err(SinkError::passing(format!("`{name}` is longer than {limit} MiB")));
        }
        Ok((name, text))
    }

    fn render(&self, parse: Parse, update: &Update) -> Result<Vec<u8>, SinkError> {
        let (name, text) = self.read()?;
        let context = everything(parse, update).map_err(SinkError::lasting)?;
        let environment = environment();
        let wrong = |error: Error| {
            let message = explain(&error);
            // Somebody may be writing that file just now.
            match self {
                Self::Given(_) => SinkError::lasting(message),
                Self::File(_) => SinkError::passing(message),
            }
        };
        let template = environment.template_from_named_str(&name, &text).map_err(wrong)?;
        let mut out = Output::default();
        match template.render_captured_to(context, &mut out) {
            Ok(_) => Ok(out.bytes),
            Err(_) if out.is_full => Err(SinkError::lasting(format!(
                "`{name}`: what it makes is longer than {} MiB",
                MAX_RENDERED_BYTES >> 20
            ))),
            Err(error) => Err(wrong(error)),
        }
    }
}

/// The names in a template that stand for nothing, in a sentence, if there are such.
fn unknown(
    environment: &Environment<'_>,
    template: &minijinja::Template<'_, '_>,
    is_there: impl Fn(&str) -> bool,
) -> Option<String> {
    let is_global = |name: &str| environment.globals().any(|(global, _)| global == name);
    let mut names: Vec<_> = template.undeclared_variables(false).into_iter().collect();
    names.retain(|name| name != "sources" && !is_global(name) && !is_there(name));
    names.sort_unstable();
    let named: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match named.as_slice() {
        [] => None,
        all => Some(format!("nothing is called {}", all.join(", "))),
    }
}

/// What the names stand for that belong to the only source.
const OF_ONE: [&str; 6] = ["value", "text", "base64", "revision", "media_type", "at"];

/// What a template can name.
fn everything(parse: Parse, update: &Update) -> Result<Value, String> {
    let mut names: BTreeMap<String, Value> = BTreeMap::new();
    let mut sources: BTreeMap<String, Value> = BTreeMap::new();
    for part in update.parts() {
        let value = parsed(parse, part)?;
        let content = part.value.as_ref().map(|value| std::str::from_utf8(&value.content));
        let name = part.source.to_string();
        names.insert(name.clone(), value.clone());
        let about = context! {
            value,
            // What is not text cannot be a part of one, and is missed only where it is named.
            text => content.and_then(Result::ok).map_or(Value::UNDEFINED, Value::from),
            base64 => part.value.as_ref().map(|value| STANDARD.encode(&value.content)),
            revision => part.revision.get(),
            media_type => part.value.as_ref().and_then(|value| value.media_type.as_deref()),
            at => part.at.to_string(),
        };
        if update.single().is_some() {
            for name in OF_ONE {
                names.insert(name.into(), about.get_attr(name).unwrap_or(Value::UNDEFINED));
            }
        }
        sources.insert(name, about);
    }
    names.insert("sources".into(), Value::from(sources));
    Ok(Value::from(names))
}

/// A value as what it is.
fn parsed(parse: Parse, part: &Part) -> Result<Value, String> {
    let Some(value) = &part.value else { return Ok(Value::from(())) };
    let format = match parse {
        Parse::Auto => value.media_type.as_deref().and_then(Format::of),
        Parse::Json => Some(Format::Json),
        Parse::Toml => Some(Format::Toml),
        Parse::Yaml => Some(Format::Yaml),
        Parse::Text => None,
    };
    let Some(format) = format else {
        let text = std::str::from_utf8(&value.content);
        return Ok(text.map_or(Value::UNDEFINED, Value::from));
    };
    let wrong = |error: &dyn std::fmt::Display| {
        // What follows on further lines may be the value.
        let error = error.to_string();
        format!("source `{}`: {}", part.source, error.lines().next().unwrap_or_default())
    };
    if format == Format::Json {
        check_json(&value.content).map_err(|error| wrong(&error))?;
    }
    let decoded: serde_json::Value = value.decode_as(format).map_err(|error| wrong(&error))?;
    Ok(Value::from(Serde(decoded)))
}

/// What is wrong, with the template's name and the line.
fn explain(error: &Error) -> String {
    let kind = error.kind();
    let what = match error.detail() {
        Some(detail) => format!("{kind}: {detail}"),
        None => kind.to_string(),
    };
    let name = error.name().unwrap_or(INLINE);
    match error.line() {
        Some(line) => format!("`{name}`, line {line}: {what}"),
        None => format!("`{name}`: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::tests::part;

    fn value(source: &str, content: &str, media_type: &str) -> Part {
        let mut part = part(source, 7, Some(content));
        if let Some(value) = &mut part.value {
            value.media_type = (!media_type.is_empty()).then(|| media_type.into());
        }
        part
    }

    fn render(template: &str, parts: &[Part]) -> Result<String, String> {
        let update = Update::new(parts.to_vec());
        let rendered = Text::Given(template.into()).render(Parse::Auto, &update);
        rendered.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|error| error.message)
    }

    #[test]
    fn a_value_is_what_its_media_type_says_and_its_text_is_there_too() {
        for (content, media_type) in [
            (r#"{"port": 80}"#, "application/json"),
            ("port = 80", "application/toml"),
            ("port: 80", "application/yaml"),
        ] {
            let app = [value("app", content, media_type)];
            let template = "{{ app.port }} {{ value.port }} {{ text }} {{ revision }}\n";
            assert_eq!(render(template, &app).unwrap(), format!("80 80 {content} 7\n"));
        }
        assert_eq!(render("{{ value }}", &[value("app", "a <b>", "")]).unwrap(), "a <b>");
    }

    #[test]
    fn several_sources_are_there_by_name() {
        let both = [value("app", "a: 1", "text/yaml"), value("my-db", "up", "text/plain")];
        let template = r#"{{ app.a }} {{ sources["my-db"].value }}"#;
        assert_eq!(render(template, &both).unwrap(), "1 up");
    }

    #[test]
    fn what_is_not_there_is_an_error_with_its_line_and_its_name() {
        let app = [value("app", "{}", "application/json")];
        let error = render("a\n{{ app.port }}", &app).unwrap_err();
        assert_eq!(error, "`template`, line 2: undefined value: `app.port` is undefined");
        let error = render("{{ porrt }}", &app).unwrap_err();
        assert_eq!(error, "`template`, line 1: undefined value: `porrt` is undefined");
        let error = render("{{ ap.port }}", &app).unwrap_err();
        assert_eq!(error, "`template`, line 1: undefined value: `ap` is undefined");
        assert_eq!(render("{{ app.port|default(80) }}", &app).unwrap(), "80");
        assert_eq!(render("{% if app.port is defined %}x{% endif %}", &app).unwrap(), "");
    }

    #[test]
    fn a_template_that_is_none_is_refused_at_once() {
        let error = Template::new(&TemplateSettings::new("a\n{% if %}", "/x")).unwrap_err();
        assert!(error.message.starts_with("`template`, line 2: syntax error"), "{error}");
        assert_eq!(error.retry, crate::Retry::No);
        let neither = TemplateSettings { template: None, ..TemplateSettings::new("", "/x") };
        assert!(Template::new(&neither).unwrap_err().message.contains("`template-file`"));
    }

    #[test]
    fn the_filters_that_operators_miss_elsewhere_are_there() {
        let app = [value("app", r#"{"b": [1, "x y"], "a": "it's"}"#, "application/json")];
        for (template, expected) in [
            ("{{ app.b|tojson }}", r#"[1, "x y"]"#),
            ("{{ app.a|b64encode|b64decode }}", "it's"),
            ("{{ app.a|quote }}", r"'it'\''s'"),
            ("{{ text|fromjson|length }}", "2"),
            ("{% for key in app %}{{ key }} {% endfor %}", "b a "),
            ("{{ 'a\nb'|indent(2) }}", "a\n  b"),
            ("{% for n in app.b %}\n{{ n }}\n{% endfor %}\n", "1\nx y\n"),
            ("{{ env('RELOADER_NOT_SET')|default('none') }}", "none"),
        ] {
            assert_eq!(render(template, &app).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn a_value_that_is_not_what_it_says_is_not_shown() {
        for media_type in ["application/json", "application/toml", "application/yaml"] {
            let app = [value("app", "{ok: 1\npassword: [hunter2\n= x", media_type)];
            let error = render("{{ value }}", &app).unwrap_err();
            assert!(error.starts_with("source `app`: ") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_template_neither_computes_nor_writes_without_end() {
        let app = [value("app", "x", "")];
        let nested =
            "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
        let error = render(nested, &app).unwrap_err();
        assert!(error.contains("fuel"), "{error}");
        let long = "{% set x = 'x' * 1000000 %}{% for a in range(100) %}{{ x }}{% endfor %}";
        assert!(render(long, &app).unwrap_err().contains("longer than 64 MiB"));
    }
}
