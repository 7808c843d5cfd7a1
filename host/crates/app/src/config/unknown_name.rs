//! Message for an unknown name, with the most similar known name.

/// Maximum edit distance between an unknown name and a suggestion.
const MAX_SUGGESTION_DISTANCE: usize = 2;

/// Maximum number of known names that a message lists.
const MAX_LISTED_NAMES: usize = 20;

/// Returns the message for an unknown name, with the most similar known name or, without one, all known names.
pub(crate) fn unknown_name(kind: &str, name: &str, known: &[&str]) -> String {
    let length = name.len();
    let similar_length = |known: &&&str| known.len().abs_diff(length) <= MAX_SUGGESTION_DISTANCE;
    let distances = known
        .iter()
        .filter(similar_length)
        .map(|known| (strsim::damerau_levenshtein(known, name), known));
    let hint = match distances.filter(|(distance, _)| *distance <= MAX_SUGGESTION_DISTANCE).min() {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None if known.is_empty() => String::new(),
        None => {
            let listed = &known[..known.len().min(MAX_LISTED_NAMES)];
            let more = match known.len() - listed.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("; available: `{}`{more}", listed.join("`, `"))
        }
    };
    format!("unknown {kind} `{name}`{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_suggests_similar_name_or_lists_all() {
        let known = ["interval", "limits"];
        let message = |name| unknown_name("key", name, &known);
        assert_eq!(message("intervall"), "unknown key `intervall`; did you mean `interval`?");
        assert_eq!(message("x"), "unknown key `x`; available: `interval`, `limits`");
        assert_eq!(unknown_name("source", "x", &[]), "unknown source `x`");
        let message = unknown_name("source", "x", &["name"; MAX_LISTED_NAMES + 3]);
        assert!(message.ends_with("`name` and 3 more"), "{message}");
    }
}
