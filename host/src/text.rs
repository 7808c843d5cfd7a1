//! Text from strangers, made fit for a log and a terminal.

/// Longer texts are cut, in bytes.
const MAX: usize = 4096;

/// On one line, without what a terminal would obey, and not too long.
pub(crate) fn tidy(text: &str) -> String {
    let mut tidy = String::new();
    for character in text.chars() {
        if tidy.len() >= MAX {
            tidy.push('…');
            break;
        }
        if character.is_control() || is_unseen(character) {
            tidy.extend(character.escape_default());
        } else {
            tidy.push(character);
        }
    }
    tidy
}

/// What of a long text can be shown at all, and somewhat more.
#[cfg(feature = "plugins")]
pub(crate) fn start(text: &str) -> &str {
    &text[..text.floor_char_boundary(4 * MAX)]
}

/// Characters that nobody sees, and that end a line, or turn the text around them so that it reads as
/// something else.
fn is_unseen(character: char) -> bool {
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
    fn a_line_stays_a_line_and_says_nothing_to_the_terminal() {
        assert_eq!(tidy("a\nb\u{1b}[2Jc\u{202e}d"), "a\\nb\\u{1b}[2Jc\\u{202e}d");
        assert_eq!(tidy("ein Gruß"), "ein Gruß");
        assert_eq!(
            tidy("a\u{2028}b\u{61c}c\u{200b}d\u{e0041}"),
            "a\\u{2028}b\\u{61c}c\\u{200b}d\\u{e0041}"
        );
    }

    #[test]
    fn a_long_text_is_cut() {
        assert!(tidy(&"x".repeat(10_000)).len() <= MAX + '…'.len_utf8());
    }
}
