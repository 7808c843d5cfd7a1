//! Options and memory limits for parsing TOML and YAML: a small document can need far more memory than its own
//! size.
//!
//! The YAML parser has a budget of nodes, aliases and events recorded for anchors. The TOML parser
//! builds a tree of up to 560 bytes for each byte of the document, so [`check_toml`] estimates the
//! size of the tree before parsing.

use toml_parser::{Source, lexer::TokenKind};

/// Maximum estimated memory of a parsed TOML document, in bytes.
const MAX_TOML_BYTES: usize = 128 << 20;
/// Estimated memory of a TOML token and of the key or value that starts with the token, in bytes
/// (measured: 50 to 150).
const TOML_TOKEN_BYTES: usize = 100;
/// Estimated additional memory of a TOML table, in bytes (measured: 1,100 to 1,700). A dot in a key,
/// a bracket or a brace can each start a table.
const TOML_TABLE_BYTES: usize = 1_500;
/// Maximum total number of events that the YAML parser records for the anchors of a document. The
/// default of the parser is 1,000,000 events, which take 106 MiB.
const MAX_YAML_RECORDED_EVENTS: usize = 250_000;

/// Error: parsing the TOML document would exceed the memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "too many tables, dotted keys and values: parsing would take more than {} MiB of memory",
    MAX_TOML_BYTES >> 20
)]
pub struct TooComplex;

/// Checks that parsing a TOML document stays within the memory limit. Tokenizes the document, but
/// does not parse it.
///
/// # Errors
///
/// [`TooComplex`] if parsing would take more than 128 MiB.
pub fn check_toml(text: &str) -> Result<(), TooComplex> {
    let mut remaining = MAX_TOML_BYTES;
    for token in Source::new(text).lex() {
        let table = matches!(
            token.kind(),
            TokenKind::Dot | TokenKind::LeftCurlyBracket | TokenKind::LeftSquareBracket
        );
        let cost = if table { TOML_TOKEN_BYTES + TOML_TABLE_BYTES } else { TOML_TOKEN_BYTES };
        remaining = remaining.checked_sub(cost).ok_or(TooComplex)?;
    }
    Ok(())
}

/// Returns the options of the YAML parser. The limits are its defaults (250,000 nodes, 50,000 aliases, 64 levels), but
/// at most 250,000 events recorded for anchors, which is less than the default.
///
/// Only `true` and `false` are booleans, as in YAML 1.2: `NO`, `on` and `y` are texts. A number with leading zeros,
/// such as a file mode or an identifier, is a text if the target type accepts any value.
#[must_use]
pub fn yaml_options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    options.strict_booleans = true;
    options.leading_zero_numbers_as_strings = true;
    if let Some(budget) = &mut options.budget {
        budget.max_recorded_anchor_events = MAX_YAML_RECORDED_EVENTS;
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parsing 8 MiB of each pattern took 1.2 to 4.5 GiB without the limit.
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
