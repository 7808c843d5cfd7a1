//! Bounded parsing: limits for documents that take far more memory to parse than their own size.
//!
//! YAML has a budget of nodes, aliases and recorded anchors. The TOML parser builds a tree, of up to 560
//! bytes for each byte of the document, so the tree's size is estimated before it is built.

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
///
/// # Errors
///
/// [`TooComplex`], if it would take more than 128 MiB.
pub fn check_toml(text: &str) -> Result<(), TooComplex> {
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
#[must_use]
pub fn yaml_options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    if let Some(budget) = &mut options.budget {
        budget.max_recorded_anchor_events = MAX_YAML_RECORDED_EVENTS;
    }
    options
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
}
