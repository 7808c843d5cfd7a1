//! Text of an error together with its causes.

use std::error::Error;

/// Returns the text of an error followed by those of its causes. Omits a cause that the text already
/// contains.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}
