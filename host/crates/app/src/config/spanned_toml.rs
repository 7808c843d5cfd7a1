//! Spanned TOML: a TOML document with the position of each key and value.

use super::diagnostics::{Diagnostic, Span};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Parsed TOML document with positions.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// Content as JSON.
    pub(crate) value: Value,
    /// Spans of the key and the value at a JSON pointer. An item of an array has no key.
    spans: HashMap<String, (Option<Span>, Span)>,
}

impl Document {
    /// Parses a text. Returns the parts that could be parsed, and the syntax errors.
    pub(crate) fn parse(text: &str) -> (Self, Vec<Diagnostic>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let diagnostics = errors.iter().map(|error| Diagnostic {
            span: error.span().unwrap_or_default(),
            message: error.message().into(),
        });
        let mut document = Self::default();
        document.value = document.table("", table.get_ref());
        document.spans.insert(String::new(), (None, 0..0));
        (document, diagnostics.collect())
    }

    /// Returns the value at a JSON pointer, or null.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.value.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// Returns the span of the value at a JSON pointer, or of the nearest value that contains it.
    pub(crate) fn value_span(&self, pointer: &str) -> Span {
        self.nearest(pointer, |(_, value)| value.clone())
    }

    /// Returns the span of the key at a JSON pointer, or of the value if it has no key.
    pub(crate) fn key_span(&self, pointer: &str) -> Span {
        self.nearest(pointer, |(key, value)| key.as_ref().unwrap_or(value).clone())
    }

    /// Returns the span at a JSON pointer, or at its nearest ancestor.
    fn nearest(&self, pointer: &str, span: fn(&(Option<Span>, Span)) -> Span) -> Span {
        let mut pointer = pointer;
        loop {
            if let Some(spans) = self.spans.get(pointer) {
                return span(spans);
            }
            match pointer.rfind('/') {
                Some(end) => pointer = &pointer[..end],
                None => return 0..0,
            }
        }
    }

    /// Converts a table and records the spans of its members.
    fn table(&mut self, at: &str, table: &DeTable<'_>) -> Value {
        let members = table.iter().map(|(key, value)| {
            let name = key.get_ref().as_ref();
            let member = self.convert(&child_pointer(at, name), Some(key.span()), value);
            (name.to_owned(), member)
        });
        Value::Object(Map::from_iter(members.collect::<Vec<_>>()))
    }

    /// Converts a value and records its spans.
    fn convert(&mut self, at: &str, key: Option<Span>, value: &Spanned<DeValue<'_>>) -> Value {
        self.spans.insert(at.into(), (key, value.span()));
        match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Into::into)
            }
            DeValue::Float(number) => {
                let number = number.as_str().parse().ok().and_then(Number::from_f64);
                number.map_or(Value::Null, Value::Number)
            }
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Array(items) => {
                let items = items.iter().enumerate();
                let items =
                    items.map(|(index, item)| self.convert(&child_pointer(at, index), None, item));
                Value::Array(items.collect())
            }
            DeValue::Table(table) => self.table(at, table),
        }
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
        let (document, diagnostics) = Document::parse(text);
        assert_eq!(diagnostics, []);
        assert_eq!(document.value, json!({ "a": 1, "b": [{ "c/d": ["x", 2.5] }] }));
        assert_eq!(&text[document.value_span("/b/0/c~1d/1")], "2.5");
        assert_eq!(&text[document.key_span("/b/0/c~1d")], "\"c/d\"");
        assert_eq!(&text[document.key_span("/a")], "a");
        assert_eq!(document.value_span("/a/gone"), document.value_span("/a"));
    }

    #[test]
    fn document_reports_all_syntax_errors() {
        let (_, diagnostics) = Document::parse("a = \nb = 1\nc = ]\n");
        assert!(diagnostics.len() >= 2, "{diagnostics:?}");
    }
}
