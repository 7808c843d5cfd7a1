//! Sink that renders a template to a file.

use super::{
    atomic_write::Target,
    file_settings::{TargetSettings, file_sink_settings},
    template_engine::{MAX_RENDERED_BYTES, MAX_STEPS, Output, environment},
    template_file_watch::TemplateFile,
    template_variables::{Parse, SINGLE_SOURCE_VARIABLES, variables},
};
use crate::{
    delivery_values::Update,
    preflight_warning::PreflightWarning,
    serial_blocking_jobs::BlockingOperation,
    sink::{Delivered, ExternalChange, FileContent, Sink, SinkError},
};
use async_trait::async_trait;
use bytes::Bytes;
use minijinja::{Environment, Error, ErrorKind};
use reloader_fs_watch::{FileFingerprint, RegularFileError, read_regular_file};
use reloader_util::blocking_pool::BlockingError;
use rustix::process::{Resource, getrlimit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fmt::Display,
    future::pending,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
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
        pub template: Option<String>,
        /// Path of a template file, as an alternative to `template`. It is read for each delivery, and
        /// rendered again when it is saved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub template_file: Option<PathBuf>,
        /// Format in which values are parsed: `auto` selects it by the media type; a value without a
        /// known media type is text. Default: `auto`.
        #[serde(default)]
        pub parse: Parse,
    }
}

impl TemplateSettings {
    /// Returns the default settings for the template text `template` and the output file `path`.
    pub fn new(template: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { template: Some(template.into()), ..Self::without_template(path) }
    }

    /// Returns the default settings for the template file `template` and the output file `path`.
    pub fn from_file(template: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Self {
        Self { template_file: Some(template.into()), ..Self::without_template(path) }
    }

    fn without_template(path: impl Into<PathBuf>) -> Self {
        let TargetSettings {
            path,
            mode,
            owner,
            group,
            backup,
            in_place,
            create_directories,
            durable,
            repair_interval,
        } = TargetSettings::new(path);
        Self {
            template: None,
            template_file: None,
            parse: Parse::default(),
            path,
            mode,
            owner,
            group,
            backup,
            in_place,
            create_directories,
            durable,
            repair_interval,
        }
    }

    /// Returns the problems of the output file, of the template's syntax and of its variables.
    pub(crate) fn preflight(&self, sources: &[String]) -> Vec<PreflightWarning> {
        let mut warnings = self.target().preflight();
        let (key, text) = match (&self.template, &self.template_file) {
            (Some(text), _) => ("template", Text::Inline(text.as_str().into())),
            (None, Some(path)) => ("template-file", Text::File(Box::new(TemplateFile::new(path)))),
            (None, None) => return warnings,
        };
        let checked = text.read().and_then(|(name, text)| {
            let environment = environment();
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
            repair_interval: self.repair_interval,
        }
    }
}

/// Sink that renders a template to a file.
#[derive(Debug)]
pub struct Template {
    text: Text,
    parse: Parse,
    target: Target,
}

/// Text of a template: inline, or in a file.
#[derive(Debug)]
enum Text {
    Inline(Arc<str>),
    /// File that is watched for changes.
    File(Box<TemplateFile>),
}

/// Maximum size of a template, in bytes.
const MAX_TEMPLATE_BYTES: u64 = 4 << 20;
/// Name that error messages use for an inline template.
const INLINE_NAME: &str = "template";

impl Template {
    /// Returns a sink with these settings. A template file is read at each delivery.
    ///
    /// # Errors
    ///
    /// Returns an error if the settings have neither or both of `template` and `template_file`, or if an
    /// inline template has a syntax error.
    pub fn new(settings: &TemplateSettings) -> Result<Self, SinkError> {
        let text = match (&settings.template, &settings.template_file) {
            (Some(text), None) => Text::Inline(text.as_str().into()),
            (None, Some(path)) => Text::File(Box::new(TemplateFile::new(path))),
            _ => {
                let expected = "expected either `template` or `template-file`";
                return Err(SinkError::permanent(expected));
            }
        };
        if let Text::Inline(text) = &text {
            let environment = environment();
            let compiled = environment.template_from_named_str(INLINE_NAME, text);
            compiled.map_err(|error| SinkError::permanent(explain(&error)))?;
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
        let failed = |error: BlockingError| SinkError::transient(error.to_string());
        let (name, text) = match &self.text {
            Text::Inline(text) => (INLINE_NAME.to_owned(), Arc::clone(text)),
            Text::File(file) => {
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
        let (is_inline, parse, update) = (self.text.is_inline(), self.parse, update.clone());
        let job = move || {
            on_large_stack(move |max_steps| {
                render(&name, &text, is_inline, parse, &update, max_steps)
            })
        };
        let rendered = self.target.run(rendering, job).await.map_err(failed)??;
        self.target.write(Some(Bytes::from(rendered))).await
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
            Text::File(file) => file.changed().await,
        }
    }

    async fn external_change(&self) -> Option<ExternalChange> {
        self.target.external_change().await
    }
}

impl Text {
    fn is_inline(&self) -> bool {
        matches!(self, Self::Inline(_))
    }

    /// Returns the name and the text of the template.
    fn read(&self) -> Result<(String, Arc<str>), SinkError> {
        match self {
            Self::Inline(text) => Ok((INLINE_NAME.to_owned(), Arc::clone(text))),
            Self::File(file) => read_template(file.path()),
        }
    }
}

/// Returns the name and the text of a template file.
fn read_template(path: &Path) -> Result<(String, Arc<str>), SinkError> {
    let name = path.display().to_string();
    let unreadable = |error: &dyn Display| format!("cannot read `{name}`: {error}");
    let read = read_regular_file(path, MAX_TEMPLATE_BYTES).map_err(|error| match error {
        RegularFileError::NotRegular => format!("`{name}` is not a regular file"),
        RegularFileError::TooLarge { max_bytes } => {
            format!("`{name}` is larger than {} MiB", max_bytes >> 20)
        }
        RegularFileError::Io(error) => unreadable(&error),
    });
    let text = read.and_then(|bytes| String::from_utf8(bytes).map_err(|e| unreadable(&e)));
    let text = text.map_err(SinkError::transient)?;
    Ok((name, text.into()))
}

/// Stack size of a rendering, in bytes. The steps of a template (`MAX_STEPS` of the engine) allow it to nest lists in about 500,000
/// levels. The engine recurses for each level when it prints or drops such a list, with about 1.2 KiB in a build without
/// optimisations.
const RENDER_STACK_BYTES: usize = 1 << 30;
/// Stack size of a rendering if the address space of the process is limited (`ulimit -v`), in bytes.
const SMALL_RENDER_STACK_BYTES: usize = 64 << 20;
/// Maximum number of steps of a rendering with the small stack.
const SMALL_STACK_MAX_STEPS: u64 = MAX_STEPS / 16;

/// Runs a rendering on a thread of its own. Its argument is the maximum number of steps. The system allocates only the memory of the stack that is used.
fn on_large_stack<R: Send + 'static>(
    render: impl FnOnce(u64) -> Result<R, SinkError> + Send + Clone + 'static,
) -> Result<R, SinkError> {
    let spawn = |stack_bytes: usize, max_steps: u64| {
        let thread = thread::Builder::new().name("reloader-render".into());
        let render = render.clone();
        thread.stack_size(stack_bytes).spawn(move || render(max_steps))
    };
    // With a limited address space, several large stacks would leave no room for other threads.
    let is_limited = getrlimit(Resource::As).current.is_some();
    let rendering = match is_limited {
        true => spawn(SMALL_RENDER_STACK_BYTES, SMALL_STACK_MAX_STEPS),
        false => spawn(RENDER_STACK_BYTES, MAX_STEPS),
    };
    let rendering = rendering.map_err(|error| {
        let hint = "hint: check the limits of processes and of memory (`ulimit -u`, `ulimit -v`)";
        SinkError::transient(format!("cannot start a thread for the rendering: {error}; {hint}"))
    })?;
    let panicked = |_| Err(SinkError::transient("the rendering panicked"));
    rendering.join().unwrap_or_else(panicked)
}

/// Renders the template `text` with the values of `update`.
fn render(
    name: &str,
    text: &str,
    is_inline: bool,
    parse: Parse,
    update: &Update,
    max_steps: u64,
) -> Result<Vec<u8>, SinkError> {
    let context = variables(parse, update).map_err(SinkError::permanent)?;
    let mut environment = environment();
    environment.set_fuel(Some(max_steps));
    let failed = |error: Error| {
        let message = explain(&error);
        // A template file may change, so that a retry succeeds.
        if is_inline { SinkError::permanent(message) } else { SinkError::transient(message) }
    };
    let template = environment.template_from_named_str(name, text).map_err(failed)?;
    let mut out = Output::default();
    match template.render_captured_to(context, &mut out) {
        Ok(_) => Ok(out.bytes),
        Err(_) if out.is_full => Err(SinkError::permanent(format!(
            "`{name}`: the rendered file is larger than {} MiB",
            MAX_RENDERED_BYTES >> 20
        ))),
        Err(error) => Err(failed(error)),
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

/// Returns the message of an error, with the template's name and the line.
fn explain(error: &Error) -> String {
    let kind = error.kind();
    let mut reason = match error.detail() {
        Some(detail) => format!("{kind}: {detail}"),
        None => kind.to_string(),
    };
    if kind == ErrorKind::UndefinedError {
        reason += "; hint: guard an optional name with `{% if a %}` or `default`; for `a.b`, both `a` and `a.b`";
    }
    let name = error.name().unwrap_or(INLINE_NAME);
    match error.line() {
        Some(line) => format!("`{name}`, line {line}: {reason}"),
        None => format!("`{name}`: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery_values::{Part, tests::part};

    fn value(source: &str, content: &str, media_type: &str) -> Part {
        let mut part = part(source, 7, Some(content));
        if let Some(value) = &mut part.value {
            value.media_type = (!media_type.is_empty()).then(|| media_type.into());
        }
        part
    }

    fn render(template: &str, parts: &[Part]) -> Result<String, String> {
        let update = Update::new(parts.to_vec());
        let rendered = super::render(INLINE_NAME, template, true, Parse::Auto, &update, MAX_STEPS);
        rendered.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|error| error.message)
    }

    #[test]
    fn value_is_parsed_by_media_type() {
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
    fn sources_are_available_by_name() {
        let both = [value("app", "a: 1", "text/yaml"), value("my-db", "up", "text/plain")];
        let template = r#"{{ app.a }} {{ sources["my-db"].value }}"#;
        assert_eq!(render(template, &both).unwrap(), "1 up");
    }

    /// The stack of a sink's thread would overflow, which aborts the host.
    #[test]
    fn deeply_nested_list_fails_or_renders() {
        let render_nested = |loops: usize, end: &str| {
            let nest =
                "{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}".repeat(loops);
            let template = format!("{{% set ns = namespace(x=[1]) %}}{nest}{end}");
            let rendering = on_large_stack(move |_| {
                let app = [value("app", "{}", "application/json")];
                Ok(render(&template, &app))
            });
            rendering.expect("the rendering returns")
        };
        for end in
            ["", "{{ ns.x }}", "{{ ns.x | tojson }}", "{{ ns.x | string }}", "{{ ns.x == 1 }}"]
        {
            render_nested(3, end).unwrap();
        }
        for (loops, end) in [(5, "{{ ns.x }}"), (20, "")] {
            assert!(render_nested(loops, end).unwrap_err().contains("fuel"));
        }
    }

    #[test]
    fn undefined_variable_error_names_line_and_variable() {
        let app = [value("app", "{}", "application/json")];
        let error = render("a\n{{ app.port }}", &app).unwrap_err();
        assert!(
            error.starts_with("`template`, line 2: undefined value: `app.port` is undefined"),
            "{error}"
        );
        let error = render("{{ porrt }}", &app).unwrap_err();
        assert!(
            error.starts_with("`template`, line 1: undefined value: `porrt` is undefined"),
            "{error}"
        );
        let error = render("{{ ap.port }}", &app).unwrap_err();
        assert!(
            error.starts_with("`template`, line 1: undefined value: `ap` is undefined"),
            "{error}"
        );
        assert_eq!(render("{{ app.port|default(80) }}", &app).unwrap(), "80");
        assert_eq!(render("{% if app.port is defined %}x{% endif %}", &app).unwrap(), "");
    }

    #[test]
    fn syntax_error_is_rejected_at_construction() {
        let error = Template::new(&TemplateSettings::new("a\n{% if %}", "/x")).unwrap_err();
        assert!(error.message.starts_with("`template`, line 2: syntax error"), "{error}");
        assert_eq!(error.retry, crate::Retry::No);
        let neither = TemplateSettings { template: None, ..TemplateSettings::new("", "/x") };
        assert!(Template::new(&neither).unwrap_err().message.contains("`template-file`"));
    }

    #[test]
    fn operator_filters_are_available() {
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
    fn parse_error_hides_the_value() {
        for media_type in ["application/json", "application/toml", "application/yaml"] {
            let app = [value("app", "{ok: 1\npassword: [hunter2\n= x", media_type)];
            let error = render("{{ value }}", &app).unwrap_err();
            assert!(error.starts_with("source `app`: ") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn steps_and_output_size_are_limited() {
        let app = [value("app", "x", "")];
        let nested =
            "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
        let error = render(nested, &app).unwrap_err();
        assert!(error.contains("fuel"), "{error}");
        let long = "{% set x = 'x' * 1000000 %}{% for a in range(100) %}{{ x }}{% endfor %}";
        assert!(render(long, &app).unwrap_err().contains("larger than 64 MiB"));
    }

    /// Filters that enlarge a text, or create as many lists as a value says, consume fuel before they allocate.
    #[test]
    fn multiplying_filters_are_bounded() {
        let quotes = "'".repeat(1 << 20);
        let content = serde_json::json!({ "n": 3_990_000, "s": quotes }).to_string();
        let hostile = [value("app", &content, "application/json")];
        for template in [
            "{{ [1, 2, 3]|slice(app.n)|list|length }}",
            "{{ app.s|quote|quote|quote|quote|quote|length }}",
            "{% for i in range(300) %}{{ app.s|b64encode|length }}{% endfor %}",
        ] {
            let error = render(template, &hostile).unwrap_err();
            assert!(error.contains("fuel"), "{template}: {error}");
        }
        let small = [value("app", r#"{"s": "it's"}"#, "application/json")];
        let template = "{{ app.s|quote }} {{ [1, 2, 3]|slice(2)|list }}";
        assert_eq!(render(template, &small).as_deref(), Ok("'it'\\''s' [[1, 2], [3]]"));
    }
}
