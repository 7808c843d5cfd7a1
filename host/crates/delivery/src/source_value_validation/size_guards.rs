//! Guards against likely mistakes: empty, oversized and suddenly shrunken values.

use super::percentage::Percentage;
use async_trait::async_trait;
use reloader_engine::types::Failure;
use reloader_source::validator::{Candidate, Rejection, Validator};
use reloader_util::units::Size;

/// Validator of the size of a value. It does not parse the value.
#[derive(Debug)]
pub(super) struct SizeGuards {
    pub(super) not_empty: bool,
    pub(super) max_size: Option<Size>,
    pub(super) max_shrink: Option<Percentage>,
}

#[async_trait]
impl Validator for SizeGuards {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let content = &candidate.new.content;
        self.check(content, candidate.before.map(|before| before.content.len()))
    }
}

impl SizeGuards {
    /// Checks the content. `previous_bytes` is the size of the last good value.
    fn check(&self, content: &[u8], previous_bytes: Option<usize>) -> Result<(), Rejection> {
        let bytes = content.len();
        if self.not_empty && content.trim_ascii().is_empty() {
            return Err(Failure::permanent("the value is empty, rejected by `not-empty`"));
        }
        if let Some(limit) = self.max_size.filter(|limit| bytes as u64 > limit.0) {
            return Err(Failure::permanent(format!(
                "the value has {bytes} bytes; `max-size` allows {limit} ({} bytes)",
                limit.0
            )));
        }
        if let (Some(share), Some(previous)) = (self.max_shrink, previous_bytes)
            && share.is_exceeded(previous, bytes)
        {
            return Err(Failure::permanent(format!(
                "the value has shrunk from {previous} bytes to {bytes}, by more than {share} \
                 (`max-shrink`); hint: raise or remove the limit to accept it"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(guards: &SizeGuards, content: &str, previous: Option<usize>) -> Option<String> {
        let checked = guards.check(content.as_bytes(), previous);
        checked.err().map(|rejection| rejection.message.to_string())
    }

    #[test]
    fn white_space_counts_as_empty() {
        let guards = SizeGuards { not_empty: true, max_size: None, max_shrink: None };
        for empty in ["", "\n", " \t\r\n"] {
            let rejection = rejection(&guards, empty, None).expect("empty");
            assert_eq!(rejection, "the value is empty, rejected by `not-empty`");
        }
        assert_eq!(rejection(&guards, "a", None), None);
    }

    #[test]
    fn oversized_value_error_names_the_limit() {
        let guards = SizeGuards { not_empty: false, max_size: Some(Size(1024)), max_shrink: None };
        assert_eq!(rejection(&guards, &"x".repeat(1024), None), None);
        let rejection = rejection(&guards, &"x".repeat(1025), None).expect("too large");
        assert_eq!(rejection, "the value has 1025 bytes; `max-size` allows 1.0 KiB (1024 bytes)");
    }

    #[test]
    fn shrunken_value_is_rejected() {
        let share = "50%".parse().expect("a share");
        let guards = SizeGuards { not_empty: false, max_size: None, max_shrink: Some(share) };
        assert_eq!(rejection(&guards, "x", None), None, "no previous value");
        assert_eq!(rejection(&guards, &"x".repeat(50), Some(100)), None);
        assert_eq!(rejection(&guards, &"x".repeat(500), Some(100)), None);
        let rejection = rejection(&guards, &"x".repeat(49), Some(100)).expect("it has shrunk");
        assert!(rejection.contains("from 100 bytes to 49, by more than 50%"), "{rejection}");
    }
}
