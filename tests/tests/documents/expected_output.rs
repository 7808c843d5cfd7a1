//! Comparison of an output with the output that a document shows.
//!
//! - `…` stands for any text in a line, and for any number of lines if it is alone in a line.
//! - Several spaces are equal to one: the width of a column depends on its content.
//! - The log event of a slow compilation is ignored: it depends on the machine and on the cache.

/// Returns the lines of a text, normalised for the comparison.
pub(crate) fn lines(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .filter(|line| !line.contains(" INFO plugin compilation is slow, still waiting "));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Returns whether all lines match. An expected line `…` stands for any number of lines.
pub(crate) fn matches_all(expected: &[String], actual: &[String]) -> bool {
    match (expected, actual) {
        ([], []) => true,
        ([any, rest @ ..], _) if any == "…" => {
            (0..=actual.len()).any(|skipped| matches_all(rest, &actual[skipped..]))
        }
        ([wanted, rest @ ..], [line, others @ ..]) => {
            matches(wanted, line) && matches_all(rest, others)
        }
        _ => false,
    }
}

/// Returns whether a line matches. `…` in the expected line stands for any text.
pub(crate) fn matches(expected: &str, line: &str) -> bool {
    let Some((start, rest)) = expected.split_once('…') else { return expected == line };
    let Some(line) = line.strip_prefix(start) else { return false };
    let mut indices = line.char_indices().map(|(index, _)| index).chain([line.len()]);
    indices.any(|index| matches(rest, &line[index..]))
}

#[test]
fn ellipsis_matches_any_text() {
    assert!(matches("a…c", "a b c") && matches("…", "") && matches("a…", "a"));
    assert!(!matches("a…c", "a b") && !matches("a", "ab"));
    let matches_text = |expected: &str, actual: &str| matches_all(&lines(expected), &lines(actual));
    assert!(matches_text("a\n…\nd", "a\nb\nc\nd") && matches_text("a  b", " a b"));
    assert!(!matches_text("a\n…", "b"));
}
