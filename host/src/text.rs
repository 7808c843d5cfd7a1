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
        if character.is_control() || is_direction(character) {
            tidy.extend(character.escape_default());
        } else {
            tidy.push(character);
        }
    }
    tidy
}

/// Characters that turn the text around them, so that it reads as something else.
fn is_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line_and_says_nothing_to_the_terminal() {
        assert_eq!(tidy("a\nb\u{1b}[2Jc\u{202e}d"), "a\\nb\\u{1b}[2Jc\\u{202e}d");
        assert_eq!(tidy("ein Gruß"), "ein Gruß");
    }

    #[test]
    fn a_long_text_is_cut() {
        assert!(tidy(&"x".repeat(10_000)).len() <= MAX + '…'.len_utf8());
    }
}
