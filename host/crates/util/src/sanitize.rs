//! Sanitises untrusted text for logs and terminals.

/// Maximum length of sanitised text, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// Returns `text` on one line, with control and invisible characters escaped, cut after 4 KiB.
#[must_use]
pub fn sanitize(text: &str) -> String {
    let mut sanitized = String::new();
    for character in text.chars() {
        if sanitized.len() >= MAX_TEXT_BYTES {
            sanitized.push('…');
            break;
        }
        if character.is_control() || is_invisible(character) {
            sanitized.extend(character.escape_default());
        } else {
            sanitized.push(character);
        }
    }
    sanitized
}

/// Returns at most the first 16 KiB of a text. Callers that process a text before [`sanitize`] process only this
/// prefix, to bound the time. The prefix is longer than the text that [`sanitize`] keeps.
#[must_use]
pub fn prefix(text: &str) -> &str {
    &text[..text.floor_char_boundary(4 * MAX_TEXT_BYTES)]
}

/// Returns whether a character has no glyph: zero-width, line-breaking and bidirectional control characters.
/// Such characters can make a text look like another text.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        assert_eq!(sanitize("a\nb\u{1b}[2Jc\u{202e}d"), "a\\nb\\u{1b}[2Jc\\u{202e}d");
        assert_eq!(sanitize("ein Gruß"), "ein Gruß");
        assert_eq!(
            sanitize("a\u{2028}b\u{61c}c\u{200b}d\u{e0041}"),
            "a\\u{2028}b\\u{61c}c\\u{200b}d\\u{e0041}"
        );
    }

    #[test]
    fn long_text_is_cut() {
        assert!(sanitize(&"x".repeat(10_000)).len() <= MAX_TEXT_BYTES + '…'.len_utf8());
        assert!(prefix(&"é".repeat(10_000)).len() <= 4 * MAX_TEXT_BYTES);
    }
}
