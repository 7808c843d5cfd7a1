//! Filters of templates that convert texts: formats, encodings, digests, regular expressions.

use super::template_limits::{charge, check_json, invalid, to_json};
use base64::{Engine, engine::general_purpose::STANDARD};
use minijinja::{Environment, Error, State, Value, value::Serde};
use regex::{Regex, RegexBuilder};
use reloader_engine::types::Snapshot;
use reloader_source::decode::Format;
use reloader_util::digest::Digest;
use std::{
    borrow::Cow,
    fmt::{self, Display},
    sync::LazyLock,
};

/// Maximum memory of a compiled regular expression, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Maximum size of the result of `toyaml`, and of the headings in the result of `totoml`, in bytes.
const MAX_DOCUMENT_BYTES: usize = 16 << 20;
/// Charge for the compilation of a regular expression, in bytes: it takes up to some milliseconds.
const REGEX_CHARGE_BYTES: usize = 256 << 10;
/// Bytes of replaced text that are charged together, since the smallest charge is one step.
const CHARGED_BYTES: usize = 64 << 10;

/// Adds the filters to the engine.
pub(super) fn add_conversions(environment: &mut Environment<'_>) {
    environment.add_filter("b64encode", |state: &State<'_, '_>, text: &str| {
        charge(state, text.len().saturating_mul(4) / 3)?;
        Ok::<_, Error>(STANDARD.encode(text))
    });
    environment.add_filter("b64decode", |state: &State<'_, '_>, text: &str| {
        charge(state, text.len())?;
        let bytes = STANDARD.decode(text.trim());
        let bytes = bytes.map_err(|error| invalid(format!("invalid Base64: {error}")))?;
        String::from_utf8(bytes).map_err(|_| {
            invalid(
                "the decoded bytes are not text; hint: write them with a `file` sink, with `at` and \
                 `encoding = \"base64\"`"
                    .into(),
            )
        })
    });
    environment.add_filter("fromjson", |state: &State<'_, '_>, text: &str| {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        charge(state, text.len())?;
        check_json(text.as_bytes()).map_err(|error| invalid(format!("invalid JSON: {error}")))?;
        parse(Format::Json, text)
    });
    environment.add_filter("fromyaml", |state: &State<'_, '_>, text: &str| {
        charge(state, text.len())?;
        parse(Format::Yaml, text)
    });
    environment.add_filter("fromtoml", |state: &State<'_, '_>, text: &str| {
        charge(state, text.len())?;
        parse(Format::Toml, text)
    });
    environment.add_filter("toyaml", |state: &State<'_, '_>, value: &Value| {
        let document = document(state, value)?;
        let mut yaml = LimitedText { text: String::new(), max_bytes: MAX_DOCUMENT_BYTES };
        let written = serde_saphyr::to_fmt_writer(&mut yaml, &document);
        written.map_err(|error| cannot_convert("YAML", &error))?;
        charge(state, yaml.text.len())?;
        Ok::<_, Error>(yaml.text)
    });
    environment.add_filter("totoml", |state: &State<'_, '_>, value: &Value| {
        let document = document(state, value)?;
        // Each table repeats the names of the tables around it in its heading.
        if heading_bytes(&document, 0) > MAX_DOCUMENT_BYTES {
            return Err(cannot_convert("TOML", &"it would be too large"));
        }
        let toml = toml::to_string(&document).map_err(|error| cannot_convert("TOML", &error))?;
        charge(state, toml.len())?;
        Ok::<_, Error>(toml)
    });
    environment.add_filter("sha256", |state: &State<'_, '_>, text: &str| {
        charge(state, text.len())?;
        Ok::<_, Error>(Digest::of(text.as_bytes()).to_string())
    });
    environment.add_filter("quote", |state: &State<'_, '_>, text: &str| {
        charge(state, text.len() + 3 * text.matches('\'').count())?;
        Ok::<_, Error>(format!("'{}'", text.replace('\'', r"'\''")))
    });
    environment.add_filter("regex_replace", regex_replace);
}

/// Returns the total size of the headings of the tables in a TOML document, at least. `path` is the size of the names
/// around `value`.
fn heading_bytes(value: &serde_json::Value, path: usize) -> usize {
    match value {
        serde_json::Value::Object(members) => members.iter().fold(path, |bytes, (name, member)| {
            bytes.saturating_add(heading_bytes(member, path.saturating_add(name.len() + 3)))
        }),
        serde_json::Value::Array(items) => items
            .iter()
            .fold(0, |bytes: usize, item| bytes.saturating_add(heading_bytes(item, path))),
        _ => 0,
    }
}

/// Text that does not grow beyond a limit.
struct LimitedText {
    text: String,
    max_bytes: usize,
}

impl fmt::Write for LimitedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > self.max_bytes {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

/// Parses a text. The error contains no part of the text.
fn parse(format: Format, text: &str) -> Result<Value, Error> {
    let decoded = Snapshot::new(text.to_owned()).decode_document(format);
    let decoded = decoded.map_err(|error| {
        let error = error.to_string();
        invalid(error.lines().next().unwrap_or_default().into())
    })?;
    Ok(Value::from(Serde(decoded)))
}

/// Converts a value to a document of limited size.
fn document(state: &State<'_, '_>, value: &Value) -> Result<serde_json::Value, Error> {
    let json = to_json(state, value, None)?;
    check_json(json.as_bytes()).map_err(|error| invalid(error.to_string()))?;
    serde_json::from_str(&json).map_err(|error| invalid(error.to_string()))
}

fn cannot_convert(format: &str, error: &dyn Display) -> Error {
    invalid(format!("cannot convert the value to {format}: {error}"))
}

/// Filter `regex_replace`: replaces all matches of a regular expression, as Ansible does. `\1` and `\g<name>` in the
/// replacement stand for the groups.
fn regex_replace(
    state: &State<'_, '_>,
    text: &str,
    pattern: &str,
    replacement: Option<&str>,
) -> Result<String, Error> {
    let failed = |error: regex::Error| {
        let error = error.to_string();
        invalid(format!("`regex_replace`: {}", error.lines().last().unwrap_or_default()))
    };
    charge(state, REGEX_CHARGE_BYTES + text.len() + pattern.len())?;
    let regex = RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).build().map_err(failed)?;
    let replacement = replacement.unwrap_or_default().replace('$', "$$");
    // The syntax of Python, converted to the one of the library.
    let replacement = GROUP_REFERENCE.as_ref().map_or(Cow::Borrowed(&*replacement), |group| {
        group.replace_all(&replacement, "$${$number$name}")
    });
    let groups = replacement.matches('$').count();
    let (mut replaced, mut end, mut uncharged) = (String::new(), 0, 0_usize);
    for captures in regex.captures_iter(text) {
        let whole = captures.get_match();
        // Each group is at most as long as the match.
        uncharged = uncharged
            .saturating_add(groups.saturating_mul(whole.len()))
            .saturating_add(replacement.len());
        // Before the memory is allocated.
        if uncharged >= CHARGED_BYTES {
            charge(state, std::mem::take(&mut uncharged))?;
        }
        replaced.push_str(&text[end..whole.start()]);
        captures.expand(&replacement, &mut replaced);
        end = whole.end();
    }
    charge(state, uncharged)?;
    replaced.push_str(&text[end..]);
    Ok(replaced)
}

/// Expression for `\1` and `\g<name>`. Always valid.
static GROUP_REFERENCE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\\(?:(?<number>[0-9])|g<(?<name>\w+)>)").ok());

#[cfg(test)]
mod tests {
    use super::super::template_engine::environment;
    use jiff::Timestamp;
    use minijinja::{Value, context, value::Serde};

    fn render(template: &str) -> Result<String, String> {
        let environment = environment(None, Timestamp::UNIX_EPOCH).expect("an engine");
        let rendered = environment.render_str(template, context! { text => "a-b" });
        rendered.map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn documents_are_converted_both_ways() {
        for (template, expected) in [
            ("{{ ('z: 1\nmode: 0644' | fromyaml).mode }}", "0644"),
            ("{{ 'd = 2026-01-02\na = [1]' | fromtoml }}", r#"{"d": "2026-01-02", "a": [1]}"#),
            ("{{ {'z': [1, 'a'], 'b': none} | toyaml }}", "z:\n- 1\n- a\nb: null\n"),
            ("{{ {'z': 1, 'a': {'b': 'c'}} | totoml }}", "z = 1\n\n[a]\nb = \"c\"\n"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
        for (template, expected) in [
            ("{{ {'a': none} | totoml }}", "to TOML"),
            ("{{ 'a: [' | fromyaml }}", "as YAML"),
            ("{{ '{' | fromjson }}", "invalid JSON"),
        ] {
            let error = render(template).expect_err(template);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn texts_are_encoded_and_replaced() {
        for (template, expected) in [
            ("{{ 'a b&c' | urlencode }}", "a%20b%26c"),
            (
                "{{ text | sha256 }}",
                "d44362d67d921091c7b9674d752e9e23c1f9ec8a4f0b82741bf01364eb97c830",
            ),
            (r"{{ text | regex_replace('(\w)-(?P<second>\w)', '\\2$1\\g<second>') }}", "b$1b"),
            ("{{ text | regex_replace('-') }}", "ab"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
        assert!(
            render("{{ text | regex_replace('(') }}").expect_err("a pattern").contains("unclosed")
        );
    }

    #[test]
    fn binary_base64_has_a_hint() {
        let error = render("{{ '/u3+7Q==' | b64decode }}").expect_err("binary");
        assert!(error.contains("`file` sink"), "{error}");
    }

    /// Each heading would repeat the long name.
    #[test]
    fn toml_and_yaml_growth_is_limited() {
        let tables: serde_json::Map<_, _> =
            (0..100).map(|number| (format!("a{number}"), serde_json::json!({ "x": 1 }))).collect();
        let long = serde_json::json!({ "k".repeat(1_000_000): tables });
        let environment = environment(None, Timestamp::UNIX_EPOCH).expect("an engine");
        let toml =
            environment.render_str("{{ v | totoml }}", context! { v => Value::from(Serde(long)) });
        assert!(format!("{:#}", toml.expect_err("100 MB")).contains("too large"));
        let deep = (0..60)
            .fold(serde_json::json!(vec!["a"; 400_000]), |list, _| serde_json::json!([list]));
        let deep = context! { v => Value::from(Serde(deep)) };
        environment.render_str("{{ v | toyaml }}", deep).expect_err("50 MB");
    }

    /// The replaced text would take a terabyte.
    #[test]
    fn replacement_growth_is_limited() {
        let template = r"{{ ('x' * 1000000) | regex_replace('x+', '\\0' * 1000000) }}";
        let error = render(template).expect_err("a terabyte");
        assert!(error.contains("fuel"), "{error}");
    }
}
