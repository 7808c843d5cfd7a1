//! Template engine: minijinja with additional filters and with limits on memory and steps.
//!
//! The operator writes the template, but the values may be hostile.

use super::{
    template_conversion_filters::add_conversions,
    template_limits::{MAX_STEPS, charge, invalid, to_json},
};
use jiff::{Timestamp, fmt};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value, escape_formatter,
    filters::slice,
    syntax::SyntaxConfig,
    value::{Kwargs, ValueKind},
};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::io::{self, Write};

/// Maximum size of the rendered output, in bytes.
pub(crate) const MAX_RENDERED_BYTES: usize = 64 << 20;
/// Memory of one list in the result of the filter `slice`, in bytes.
const LIST_BYTES: usize = 256;
/// Maximum number of spaces by which `tojson` indents each level.
const MAX_JSON_INDENT: usize = 64;

/// Start and end of an expression in a template, such as `{{` and `}}`.
pub(crate) type Delimiters = (String, String);

/// Returns an engine with the filters and limits of the host, and without templates. `now` is the time that the function
/// `now` returns.
pub(crate) fn environment(
    delimiters: Option<&Delimiters>,
    now: Timestamp,
) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    // A missing name is an error, except where the template asks whether there is one: `if`, `or`, `default`.
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    // Errors name the undefined variable only in debug mode.
    environment.set_debug(true);
    // No HTML escaping: templates render configuration files.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // A line that contains only a block tag renders no empty line.
    let mut syntax = SyntaxConfig::builder();
    syntax.keep_trailing_newline(true).trim_blocks(true).lstrip_blocks(true);
    if let Some((start, end)) = delimiters {
        syntax.variable_delimiters(start.clone(), end.clone());
    }
    environment.set_syntax(syntax.build()?);
    environment.set_fuel(Some(MAX_STEPS));
    add_conversions(&mut environment);
    environment.add_filter("tojson", tojson);
    environment.set_formatter(write_value);
    // Methods of Python's texts, lists and dictionaries, which most templates for Jinja2 use.
    environment.set_unknown_method_callback(call_method);
    environment.add_filter(
        "slice",
        |state: &State<'_, '_>, value: Value, lists: usize, fill: Option<Value>| {
            charge(state, lists.saturating_mul(LIST_BYTES))?;
            slice(state, value, lists, fill)
        },
    );
    environment.add_function("env", |name: &str| {
        std::env::var(name).map_or(Value::UNDEFINED, Value::from)
    });
    environment.add_function("now", move |format: Option<&str>| match format {
        None => Ok(now.to_string()),
        Some(format) => fmt::strtime::format(format, now)
            .map_err(|error| invalid(format!("`now`: invalid format: {error}"))),
    });
    Ok(environment)
}

/// Filter `tojson`: JSON text, as it is, without the escapes that minijinja adds for HTML.
fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => kwargs.get("indent")?,
    };
    kwargs.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "the value of `tojson` is undefined"));
    }
    let spaces = match indent {
        None => None,
        Some(indent) => match bool::try_from(indent.clone()) {
            Ok(is_indented) => is_indented.then_some(2),
            Err(_) => Some(usize::try_from(indent)?),
        },
    };
    if spaces > Some(MAX_JSON_INDENT) {
        return Err(invalid(format!("`tojson` indents by at most {MAX_JSON_INDENT} spaces")));
    }
    to_json(state, value, spaces).map(Value::from)
}

/// Writes the value of an expression: texts as they are, all other values as JSON, so that programs can read them.
fn write_value(
    output: &mut minijinja::Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool
        | ValueKind::None
        | ValueKind::Seq
        | ValueKind::Map
        | ValueKind::Iterable => {
            let text = to_json(state, value, None)?;
            output.write_str(&text).map_err(Error::from)
        }
        _ => escape_formatter(output, state, value),
    }
}

/// Calls a method of Python. `format` of a text is left out: the callback does not limit its width and precision.
fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if method == "format" {
        let reason = "method `format` is not available; hint: use the filter `format`";
        return Err(Error::new(ErrorKind::UnknownMethod, reason));
    }
    unknown_method_callback(state, value, method, arguments)
}

/// Buffer for the output of a template. A write beyond [`MAX_RENDERED_BYTES`] fails.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    /// `true` after a write failed because the output would exceed the limit.
    pub(crate) is_full: bool,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let accepted = MAX_RENDERED_BYTES.saturating_sub(self.bytes.len()).min(bytes.len());
        if accepted == 0 && !bytes.is_empty() {
            self.is_full = true;
            return Err(io::Error::other("too large"));
        }
        self.bytes.extend_from_slice(&bytes[..accepted]);
        Ok(accepted)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::template_limits::{MAX_JSON_NODES, check_json},
        *,
    };
    use minijinja::context;

    fn render(template: &str, number: u64) -> Result<String, String> {
        let environment = environment(None, Timestamp::UNIX_EPOCH).expect("an engine");
        let rendered = environment.render_str(template, context! { number });
        rendered.map_err(|error| format!("{error:#}"))
    }

    /// Regression: the indentation was allocated without a limit, and the process aborted.
    #[test]
    fn json_indent_is_limited() {
        let template = "{{ [[1]]|tojson(indent=number) }}";
        assert_eq!(render(template, 1).expect("a small indent"), "[\n [\n  1\n ]\n]");
        let error = render(template, 999_999_999).expect_err("a large indent");
        assert!(error.contains("at most 64 spaces"), "{error}");
        assert_eq!(render("{{ [1, 2]|tojson }}", 1).as_deref(), Ok("[1, 2]"));
        assert_eq!(render("{{ [1]|tojson(true) }}", 1).as_deref(), Ok("[\n  1\n]"));
    }

    #[test]
    fn condition_on_missing_name_is_false() {
        for (template, expected) in [
            ("{% if missing %}yes{% else %}no{% endif %}", "no"),
            ("{{ missing or 'd' }} {{ {}.missing or 'd' }}", "d d"),
            ("{{ missing | default('d') }}", "d"),
            ("{% if missing is defined %}yes{% else %}no{% endif %}", "no"),
        ] {
            assert_eq!(render(template, 1).as_deref(), Ok(expected), "{template}");
        }
        for template in [
            "{{ missing }}",
            "{{ missing | upper }}",
            "{% for x in missing %}{% endfor %}",
            "{{ missing.name }}",
        ] {
            let error = render(template, 1).expect_err(template);
            assert!(error.contains("`missing` is undefined"), "{error}");
        }
    }

    /// Programs that read the file do not know the notation of Python.
    #[test]
    fn values_are_rendered_as_json() {
        for (template, expected) in [
            ("{{ true }} {{ false }} {{ none }} {{ number }}", "true false null 1"),
            ("{{ ['a', 1, none] }} {{ {'a': [true]} }}", r#"["a", 1, null] {"a": [true]}"#),
            ("{{ 'it is <b> & ü' }} {{ 1.5 }}", "it is <b> & ü 1.5"),
            ("{{ 'x' if number }} {{ [1, 2] | join(', ') }}", "x 1, 2"),
        ] {
            assert_eq!(render(template, 1).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn time_is_that_of_the_delivery() {
        assert_eq!(render("{{ now() }}", 1).as_deref(), Ok("1970-01-01T00:00:00Z"));
        assert_eq!(render("{{ now('%d.%m.%Y') }}", 1).as_deref(), Ok("01.01.1970"));
        assert!(render("{{ now('%!') }}", 1).expect_err("a format").contains("invalid format"));
    }

    #[test]
    fn loop_controls_are_available() {
        let template =
            "{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}";
        assert_eq!(render(template, 1).as_deref(), Ok("1"));
    }

    #[test]
    fn json_is_not_escaped_for_html() {
        let template = r#"{{ "http://x/?a=1&b=2" | tojson }} {{ "it's <b>" | tojson }}"#;
        assert_eq!(render(template, 1).as_deref(), Ok(r#""http://x/?a=1&b=2" "it's <b>""#));
    }

    #[test]
    fn methods_of_python_are_available() {
        for (template, expected) in [
            ("{% for k, v in {'b': 1}.items() %}{{ k }}={{ v }}{% endfor %}", "b=1"),
            ("{{ {'a': 1}.get('x', 'd') }}", "d"),
            ("{{ 'a,b'.split(',')[0] }} {{ 'a,b'.upper() }}", "a A,B"),
        ] {
            assert_eq!(render(template, 1).as_deref(), Ok(expected), "{template}");
        }
    }

    /// Each of these templates would allocate much more memory than its values.
    #[test]
    fn growth_by_methods_is_limited() {
        for template in [
            "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(number) %}\
             {% set ns.x = ns.x.replace('x', ns.x) %}{% endfor %}{{ ns.x|length }}",
            "{{ '{0:>9000000000000000}'.format('a') }}",
        ] {
            render(template, 40).expect_err(template);
        }
    }

    #[test]
    fn json_output_is_limited() {
        let doubled = "{% set ns = namespace(x=[1]) %}{% for i in range(number) %}\
                       {% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}";
        let error = render(doubled, 40).expect_err("a terabyte");
        assert!(error.contains("larger than 15 MiB"), "{error}");
    }

    /// Regression: each of these templates allocated 0.9 to 1.9 GiB.
    #[test]
    fn text_growth_is_limited() {
        for (template, number) in [
            ("{{ ('x' * number)|length }}", 500_000_000),
            (
                "{% set ns = namespace(x='x') %}{% for i in range(number) %}\
              {% set ns.x = ns.x ~ ns.x %}{% endfor %}",
                40,
            ),
            ("{{ ('%' ~ number ~ 's')|format('x')|length }}", 999_999_999),
            ("{{ ([1] * number)|list|length }}", 100_000_000),
        ] {
            let error = render(template, number).expect_err(template);
            assert!(error.contains("fuel") || error.contains("too large"), "{error}");
        }
    }

    #[test]
    fn json_nodes_are_limited() {
        let json = format!("[{}{{}}]", "{},".repeat(MAX_JSON_NODES));
        let error = check_json(json.as_bytes()).expect_err("too many");
        assert!(error.to_string().contains("too many values"), "{error}");
        assert!(check_json(b"[1, {}]").is_ok());
    }
}
