//! Bounded parsing: limits for documents that take far more memory to parse than their own size.
//!
//! JSON and YAML are read as streams: a syntax check takes no more memory than the deepest level. YAML
//! has a budget of nodes, aliases and recorded anchors. The TOML parser builds a tree, of up to 560 bytes
//! for each byte of the document, so the tree's size is estimated before it is built.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use std::fmt;
use toml_parser::{Source, lexer::TokenKind};

/// Maximum estimated memory of a parsed TOML document, in bytes.
const MAX_TOML_MEMORY: usize = 128 << 20;
/// Memory of a TOML token, and of the key or value that it begins, in bytes (measured: 50 to 150).
const TOML_TOKEN: usize = 100;
/// Memory of a table in addition, in bytes (measured: 1,100 to 1,700). A dot in a key, a bracket and a
/// brace can each begin one.
const TOML_TABLE: usize = 1_500;
/// Maximum number of events that YAML anchors record for their aliases, in total. The parser's default
/// of 1,000,000 takes 106 MiB.
const MAX_YAML_RECORDED_EVENTS: usize = 250_000;

/// A TOML document that would take too much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has too many tables, dotted names and values: parsing it would take more than {} MiB",
    MAX_TOML_MEMORY >> 20
)]
pub struct TooComplex;

/// Checks that parsing a TOML document takes bounded memory, without parsing it.
pub(crate) fn check_toml(text: &str) -> Result<(), TooComplex> {
    let mut left = MAX_TOML_MEMORY;
    for token in Source::new(text).lex() {
        let table = matches!(
            token.kind(),
            TokenKind::Dot | TokenKind::LeftCurlyBracket | TokenKind::LeftSquareBracket
        );
        let cost = if table { TOML_TOKEN + TOML_TABLE } else { TOML_TOKEN };
        left = left.checked_sub(cost).ok_or(TooComplex)?;
    }
    Ok(())
}

/// Returns the limits for YAML: the parser's defaults (250,000 nodes, 50,000 aliases, 64 levels), and less
/// memory for anchors.
pub(crate) fn yaml_options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    if let Some(budget) = &mut options.budget {
        budget.max_recorded_anchor_events = MAX_YAML_RECORDED_EVENTS;
    }
    options
}

/// Reads a document without keeping it, and returns whether it is empty: `null`, or a text, list or table
/// with nothing in it. `nodes` is the maximum number of values and keys.
pub(crate) struct Outline<'a> {
    pub(crate) nodes: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for Outline<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        *self.nodes = self
            .nodes
            .checked_sub(1)
            .ok_or_else(|| D::Error::custom("it has too many values and keys"))?;
        deserializer.deserialize_any(self)
    }
}

/// Whether a document is empty, however many nodes it has. See [`Outline`].
pub(crate) struct Emptiness(pub(crate) bool);

impl<'de> Deserialize<'de> for Emptiness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut nodes = usize::MAX;
        Outline { nodes: &mut nodes }.deserialize(deserializer).map(Self)
    }
}

impl<'de> Visitor<'de> for Outline<'_> {
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
        while items.next_element_seed(Outline { nodes: &mut *self.nodes })?.is_some() {
            empty = false;
        }
        Ok(empty)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        let mut empty = true;
        while members.next_key_seed(Outline { nodes: &mut *self.nodes })?.is_some() {
            members.next_value_seed(Outline { nodes: &mut *self.nodes })?;
            empty = false;
        }
        Ok(empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pattern took 1.2 to 4.5 GiB when it filled 8 MiB.
    #[test]
    fn toml_bomb_is_too_complex() {
        let filled = |pattern: &str| pattern.repeat((8 << 20) / pattern.len());
        let dotted: String =
            (0..50_000).map(|key| format!("k{key}{}=0\n", ".a".repeat(70))).collect();
        for bomb in
            [format!("a=[{}]", filled("{a=0},")), filled("[[a]]\n[[a.b]]\n[[a.b.c]]\n"), dotted]
        {
            assert_eq!(check_toml(&bomb), Err(TooComplex));
        }
    }

    #[test]
    fn large_ordinary_toml_is_accepted() {
        let ordinary: String = (0..20_000)
            .map(|key| format!("[server.s{key}]\nhost = \"10.0.0.1\"\nport = {key}\n"))
            .collect();
        assert_eq!(check_toml(&ordinary), Ok(()));
        assert!(ordinary.len() > 800_000);
    }

    #[test]
    fn node_count_is_limited() {
        let count = |nodes: &mut usize| {
            let mut json = serde_json::Deserializer::from_str(r#"{"a": [1, 2]}"#);
            Outline { nodes }.deserialize(&mut json)
        };
        let mut nodes = 5;
        assert!(!count(&mut nodes).expect("five nodes"));
        assert_eq!(nodes, 0);
        assert!(count(&mut 4).expect_err("too many").to_string().contains("too many values"));
    }
}
