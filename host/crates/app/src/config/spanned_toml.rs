//! Spanned TOML: a TOML document with the position of each key and value.

use super::diagnostics::{Diagnostic, Span};
use serde_json::{Number, Value};
use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, OnceLock},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Parsed TOML document, with the positions of its parts in the text for error messages.
#[derive(Debug, Default)]
pub(crate) struct Document {
    text: Arc<str>,
    /// Content of the document, converted to JSON.
    pub(crate) value: Value,
    /// Byte ranges of the headers `[[source]]` in the text, in order.
    source_headers: Vec<Span>,
    /// Positions of all keys and values, computed at their first use: only error messages need them.
    spans: OnceLock<Spans>,
}

/// Spans of the key and the value at a JSON pointer. An item of an array has no key.
type Spans = HashMap<String, (Option<Span>, Span)>;

impl Document {
    /// Parses a text. Returns the parts that could be parsed, and the errors.
    pub(crate) fn parse(text: &Arc<str>) -> (Self, Vec<Diagnostic>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut diagnostics = Vec::from_iter(errors.iter().map(|error| Diagnostic {
            span: error.span().unwrap_or_default(),
            message: error.message().into(),
        }));
        let value = convert_table(table.get_ref(), &mut diagnostics);
        let sources = table.get_ref().get("source").and_then(|value| value.get_ref().as_array());
        let headers = sources.into_iter().flatten().map(Spanned::span);
        let document = Self {
            text: Arc::clone(text),
            value,
            source_headers: headers.collect(),
            spans: OnceLock::new(),
        };
        (document, diagnostics)
    }

    /// Returns the value at a JSON pointer, or null.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.value.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// Returns the range of the text that contains all settings of a source, for each source: from its header
    /// `[[source]]` to the next such header, or to the end of the text. Its table `[source.config]` may follow
    /// unrelated tables, so the range may also contain unrelated tables.
    pub(crate) fn source_ranges(&self) -> Vec<Range<usize>> {
        let starts = self.source_headers.iter().map(|header| header.start);
        let ends = starts.clone().skip(1).chain([self.text.len()]);
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }

    /// Returns the span of the value at a JSON pointer, or of the nearest value that contains it.
    pub(crate) fn value_span(&self, pointer: &str) -> Span {
        self.nearest(pointer, |(_, value)| value.clone())
    }

    /// Returns the span of the key at a JSON pointer, or of the value if the value has no key.
    pub(crate) fn key_span(&self, pointer: &str) -> Span {
        self.nearest(pointer, |(key, value)| key.as_ref().unwrap_or(value).clone())
    }

    /// Returns the span at a JSON pointer, or at its nearest ancestor.
    fn nearest(&self, pointer: &str, span: fn(&(Option<Span>, Span)) -> Span) -> Span {
        let spans = self.spans.get_or_init(|| spans(&self.text));
        let mut pointer = pointer;
        loop {
            if let Some(spans) = spans.get(pointer) {
                return span(spans);
            }
            match pointer.rfind('/') {
                Some(end) => pointer = &pointer[..end],
                None => return 0..0,
            }
        }
    }
}

/// Converts a table to JSON, and adds an error for each number that has no equivalent in JSON.
fn convert_table(table: &DeTable<'_>, diagnostics: &mut Vec<Diagnostic>) -> Value {
    let members = table
        .iter()
        .map(|(key, value)| (key.get_ref().as_ref().to_owned(), convert_value(value, diagnostics)));
    Value::Object(members.collect())
}

fn convert_value(value: &Spanned<DeValue<'_>>, diagnostics: &mut Vec<Diagnostic>) -> Value {
    let number = match value.get_ref() {
        DeValue::String(text) => return Value::String(text.to_string()),
        DeValue::Boolean(value) => return Value::Bool(*value),
        DeValue::Datetime(time) => return Value::String(time.to_string()),
        DeValue::Array(items) => {
            return items.iter().map(|item| convert_value(item, diagnostics)).collect();
        }
        DeValue::Table(table) => return convert_table(table, diagnostics),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::from)
            .map_err(|_| format!("integer out of range: the maximum is {}", i64::MAX)),
        DeValue::Float(number) => {
            let parsed = number.as_str().parse().ok().and_then(Number::from_f64);
            let invalid = || format!("`{}` is not a finite number", number.as_str());
            parsed.map(Value::Number).ok_or_else(invalid)
        }
    };
    number.unwrap_or_else(|message| {
        diagnostics.push(Diagnostic { span: value.span(), message });
        Value::Null
    })
}

/// Returns the positions of all keys and values of a text.
fn spans(text: &str) -> Spans {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut spans = HashMap::from([(String::new(), (None, 0..0))]);
    add_table_spans("", table.get_ref(), &mut spans);
    spans
}

fn add_table_spans(at: &str, table: &DeTable<'_>, spans: &mut Spans) {
    for (key, value) in table {
        let at = child_pointer(at, key.get_ref());
        add_spans(&at, Some(key.span()), value, spans);
    }
}

fn add_spans(at: &str, key: Option<Span>, value: &Spanned<DeValue<'_>>, spans: &mut Spans) {
    spans.insert(at.into(), (key, value.span()));
    match value.get_ref() {
        DeValue::Table(table) => add_table_spans(at, table, spans),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                add_spans(&child_pointer(at, index), None, item, spans);
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

/// Returns the JSON pointer of a member of a table or an item of an array.
pub(crate) fn child_pointer(at: &str, name: impl ToString) -> String {
    format!("{at}/{}", name.to_string().replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn document_has_spans_of_keys_and_values() {
        let text = "a = 1\n[[b]]\n\"c/d\" = [\"x\", 2.5]\n";
        let (document, diagnostics) = Document::parse(&text.into());
        assert_eq!(diagnostics, []);
        assert_eq!(document.value, json!({ "a": 1, "b": [{ "c/d": ["x", 2.5] }] }));
        assert_eq!(&text[document.value_span("/b/0/c~1d/1")], "2.5");
        assert_eq!(&text[document.key_span("/b/0/c~1d")], "\"c/d\"");
        assert_eq!(&text[document.key_span("/a")], "a");
        assert_eq!(document.value_span("/a/gone"), document.value_span("/a"));
    }

    #[test]
    fn document_reports_all_syntax_errors() {
        let (_, diagnostics) = Document::parse(&"a = \nb = 1\nc = ]\n".into());
        assert!(diagnostics.len() >= 2, "{diagnostics:?}");
    }

    #[test]
    fn number_out_of_range_has_a_position() {
        let text = "a = 18446744073709551615\nb = [inf]\nc = 0xffff_ffff_ffff_ffff\n";
        let (_, diagnostics) = Document::parse(&text.into());
        let found: Vec<_> =
            diagnostics.iter().map(|found| (&text[found.span.clone()], &*found.message)).collect();
        let too_large = "integer out of range: the maximum is 9223372036854775807";
        assert_eq!(
            found,
            [
                ("18446744073709551615", too_large),
                ("inf", "`inf` is not a finite number"),
                ("0xffff_ffff_ffff_ffff", too_large),
            ]
        );
    }

    /// The table `[source.config]` of the second source follows the unrelated table `[state]`.
    #[test]
    fn range_of_a_source_contains_all_its_tables() {
        let text = "[[source]]\na = 1\n[[source]]\n[state]\n[source.config]\nb = 1\n";
        let (document, _) = Document::parse(&text.into());
        let ranges = document.source_ranges();
        let texts: Vec<_> = ranges.into_iter().map(|range| &text[range]).collect();
        assert_eq!(texts, ["[[source]]\na = 1\n", "[[source]]\n[state]\n[source.config]\nb = 1\n"]);
    }
}
