//! A TOML document of which every part knows where it was written.

use super::diagnostics::Mistake;
use serde_json::{Map, Number, Value};
use std::{collections::HashMap, ops::Range};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Where something stands in the text, in bytes.
pub(crate) type Span = Range<usize>;

/// What was written, and where.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) value: Value,
    /// By JSON pointer: the key, if it has one, and the value.
    spans: HashMap<String, (Option<Span>, Span)>,
}

impl Document {
    /// Reads it, as far as that goes, and says all that is wrong with it.
    pub(crate) fn parse(text: &str) -> (Self, Vec<Mistake>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mistakes = errors.iter().map(|error| Mistake {
            at: error.span().unwrap_or_default(),
            message: error.message().into(),
        });
        let mut document = Self::default();
        document.value = document.table("", table.get_ref());
        document.spans.insert(String::new(), (None, 0..0));
        (document, mistakes.collect())
    }

    /// What is at a JSON pointer.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.value.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// Where the value at a JSON pointer stands; if there is none, what is around it.
    pub(crate) fn value_span(&self, pointer: &str) -> Span {
        self.nearest(pointer, |(_, value)| value.clone())
    }

    /// Where the key of what is at a JSON pointer stands; if it has none, the value.
    pub(crate) fn key_span(&self, pointer: &str) -> Span {
        self.nearest(pointer, |(key, value)| key.as_ref().unwrap_or(value).clone())
    }

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

    fn table(&mut self, at: &str, table: &DeTable<'_>) -> Value {
        let members = table.iter().map(|(key, value)| {
            let name = key.get_ref().as_ref();
            let member = self.part(&below(at, name), Some(key.span()), value);
            (name.to_owned(), member)
        });
        Value::Object(Map::from_iter(members.collect::<Vec<_>>()))
    }

    fn part(&mut self, at: &str, key: Option<Span>, value: &Spanned<DeValue<'_>>) -> Value {
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
                Value::Array(
                    items.map(|(index, item)| self.part(&below(at, index), None, item)).collect(),
                )
            }
            DeValue::Table(table) => self.table(at, table),
        }
    }
}

/// The pointer to a member, or an item.
pub(crate) fn below(at: &str, name: impl ToString) -> String {
    format!("{at}/{}", name.to_string().replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_part_knows_where_it_was_written() {
        let text = "a = 1\n[[b]]\n\"c/d\" = [\"x\", 2.5]\n";
        let (document, mistakes) = Document::parse(text);
        assert_eq!(mistakes, []);
        assert_eq!(document.value, json!({ "a": 1, "b": [{ "c/d": ["x", 2.5] }] }));
        assert_eq!(&text[document.value_span("/b/0/c~1d/1")], "2.5");
        assert_eq!(&text[document.key_span("/b/0/c~1d")], "\"c/d\"");
        assert_eq!(&text[document.key_span("/a")], "a");
        assert_eq!(document.value_span("/a/gone"), document.value_span("/a"));
    }

    #[test]
    fn all_that_is_no_toml_is_said() {
        let (_, mistakes) = Document::parse("a = \nb = 1\nc = ]\n");
        assert!(mistakes.len() >= 2, "{mistakes:?}");
    }
}
