//! Streaming check of a document: syntax, number of values, and emptiness.
//!
//! JSON and YAML are read as streams, so the memory use depends only on the nesting depth.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use std::fmt;

/// Deserializer seed that discards the document and returns whether it is empty: `null`, or an empty
/// string, list or table. `nodes` is the remaining number of allowed values and keys. Fails if the document has more.
pub(crate) struct DocumentScan<'a> {
    pub(crate) nodes: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for DocumentScan<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        *self.nodes = self
            .nodes
            .checked_sub(1)
            .ok_or_else(|| D::Error::custom("too many values and keys"))?;
        deserializer.deserialize_any(self)
    }
}

/// Emptiness of a document, without a limit on its nodes. See [`DocumentScan`].
pub(crate) struct Emptiness(pub(crate) bool);

impl<'de> Deserialize<'de> for Emptiness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut nodes = usize::MAX;
        DocumentScan { nodes: &mut nodes }.deserialize(deserializer).map(Self)
    }
}

impl<'de> Visitor<'de> for DocumentScan<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i128<E>(self, _: i128) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u128<E>(self, _: u128) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(text.trim().is_empty())
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_none<E>(self) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, it: D) -> Result<bool, D::Error> {
        it.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        let mut empty = true;
        while items.next_element_seed(DocumentScan { nodes: &mut *self.nodes })?.is_some() {
            empty = false;
        }
        Ok(empty)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        let mut empty = true;
        while members.next_key_seed(DocumentScan { nodes: &mut *self.nodes })?.is_some() {
            members.next_value_seed(DocumentScan { nodes: &mut *self.nodes })?;
            empty = false;
        }
        Ok(empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_count_is_limited() {
        let count = |nodes: &mut usize| {
            let mut json = serde_json::Deserializer::from_str(r#"{"a": [1, 2]}"#);
            DocumentScan { nodes }.deserialize(&mut json)
        };
        let mut nodes = 5;
        assert!(!count(&mut nodes).expect("five nodes"));
        assert_eq!(nodes, 0);
        assert!(count(&mut 4).expect_err("too many").to_string().contains("too many values"));
    }
}
