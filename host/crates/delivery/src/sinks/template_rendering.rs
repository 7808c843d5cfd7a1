//! Rendering of a template, on a thread with a large stack and with limits.

use super::{
    template_engine::{Delimiters, MAX_RENDERED_BYTES, Output, environment},
    template_includes::Includes,
    template_limits::MAX_STEPS,
    template_variables::{Parse, variables},
};
use crate::{delivery_values::Update, sink::SinkError};
use jiff::Timestamp;
use minijinja::{Error, ErrorKind};
use rustix::process::{Resource, getrlimit};
use std::{sync::Arc, thread};

/// Name that error messages use for an inline template.
pub(super) const INLINE_NAME: &str = "template";

/// Stack size of a rendering, in bytes. The steps of a template (`MAX_STEPS` of the engine) allow it to nest lists in about 500,000
/// levels. The engine recurses for each level when it prints or drops such a list, with about 1.2 KiB in a build without
/// optimisations.
const RENDER_STACK_BYTES: usize = 1 << 30;
/// Stack size of a rendering if the address space of the process is limited (`ulimit -v`), in bytes.
const SMALL_RENDER_STACK_BYTES: usize = 64 << 20;
/// Maximum number of steps of a rendering with the small stack.
const SMALL_STACK_MAX_STEPS: u64 = MAX_STEPS / 16;

/// Runs a rendering on a thread of its own. Its argument is the maximum number of steps. The system allocates only the memory of the stack that is used.
pub(super) fn on_large_stack<R: Send + 'static>(
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

/// Rendering of a template with the values of one update.
#[derive(Debug, Clone)]
pub(super) struct Rendering {
    /// Name of the template in error messages.
    pub(super) name: String,
    pub(super) text: Arc<str>,
    /// Files that the template can include; `None` for an inline template.
    pub(super) includes: Option<Arc<Includes>>,
    pub(super) parse: Parse,
    pub(super) delimiters: Option<Delimiters>,
    pub(super) update: Update,
}

impl Rendering {
    pub(super) fn render(&self, max_steps: u64) -> Result<Vec<u8>, SinkError> {
        let context = variables(self.parse, &self.update).map_err(SinkError::permanent)?;
        let failed = |error: Error| {
            let message = explain(&error);
            match self.includes {
                None => SinkError::permanent(message),
                // A template file may change, so that a retry succeeds.
                Some(_) => SinkError::transient(message),
            }
        };
        let latest = self.update.parts().iter().map(|part| part.at).max();
        let now = latest.unwrap_or(Timestamp::UNIX_EPOCH);
        let mut environment = environment(self.delimiters.as_ref(), now).map_err(failed)?;
        environment.set_fuel(Some(max_steps));
        if let Some(includes) = self.includes.clone() {
            environment.set_loader(move |name| includes.load(name));
        }
        let template = environment.template_from_named_str(&self.name, &self.text);
        let template = template.map_err(failed)?;
        let mut out = Output::default();
        match template.render_captured_to(context, &mut out) {
            Ok(_) => Ok(out.bytes),
            Err(_) if out.is_full => Err(SinkError::permanent(format!(
                "`{}`: the rendered file is larger than {} MiB",
                self.name,
                MAX_RENDERED_BYTES >> 20
            ))),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Returns the message of an error, with the template's name and the line.
pub(super) fn explain(error: &Error) -> String {
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
        let rendering = Rendering {
            name: INLINE_NAME.into(),
            text: template.into(),
            includes: None,
            parse: Parse::Auto,
            delimiters: None,
            update: Update::new(parts.to_vec()),
        };
        let rendered = rendering.render(MAX_STEPS);
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
