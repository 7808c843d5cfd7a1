//! Guards against what a value hardly ever means: that it is empty, or has lost most of itself.

use super::{Share, bad};
use async_trait::async_trait;
use reloader_source::validator::{Candidate, Rejection, Validator};
use reloader_util::units::Size;

/// Knows the bytes alone.
#[derive(Debug)]
pub(super) struct Guards {
    pub(super) not_empty: bool,
    pub(super) max_size: Option<Size>,
    pub(super) max_shrink: Option<Share>,
}

#[async_trait]
impl Validator for Guards {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let content = &candidate.new.content;
        self.check(content, candidate.before.map(|before| before.content.len()))
    }
}

impl Guards {
    fn check(&self, content: &[u8], before: Option<usize>) -> Result<(), Rejection> {
        let bytes = content.len();
        if self.not_empty && content.trim_ascii().is_empty() {
            return Err(bad("the value is empty, which `not-empty` refuses"));
        }
        if let Some(most) = self.max_size.filter(|most| bytes as u64 > most.0) {
            return Err(bad(format!(
                "the value has {bytes} bytes; `max-size` allows {most} ({} bytes)",
                most.0
            )));
        }
        if let (Some(share), Some(before)) = (self.max_shrink, before)
            && share.is_exceeded(before, bytes)
        {
            return Err(bad(format!(
                "the value has shrunk from {before} bytes to {bytes}, by more than {share} \
                 (`max-shrink`); raise or remove that limit to let it through"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(guards: &Guards, content: &str, before: Option<usize>) -> Option<String> {
        guards.check(content.as_bytes(), before).err().map(|refusal| refusal.message.to_string())
    }

    #[test]
    fn a_value_of_white_space_is_empty() {
        let guards = Guards { not_empty: true, max_size: None, max_shrink: None };
        for empty in ["", "\n", " \t\r\n"] {
            let refusal = refusal(&guards, empty, None).expect("empty");
            assert_eq!(refusal, "the value is empty, which `not-empty` refuses");
        }
        assert_eq!(refusal(&guards, "a", None), None);
    }

    #[test]
    fn what_is_too_large_says_how_large_it_may_be() {
        let guards = Guards { not_empty: false, max_size: Some(Size(1024)), max_shrink: None };
        assert_eq!(refusal(&guards, &"x".repeat(1024), None), None);
        let refusal = refusal(&guards, &"x".repeat(1025), None).expect("too large");
        assert_eq!(refusal, "the value has 1025 bytes; `max-size` allows 1.0 KiB (1024 bytes)");
    }

    #[test]
    fn a_value_that_has_lost_most_of_itself_is_refused() {
        let share = "50%".parse().expect("a share");
        let guards = Guards { not_empty: false, max_size: None, max_shrink: Some(share) };
        assert_eq!(refusal(&guards, "x", None), None, "there is nothing to compare it with");
        assert_eq!(refusal(&guards, &"x".repeat(50), Some(100)), None);
        assert_eq!(refusal(&guards, &"x".repeat(500), Some(100)), None);
        let refusal = refusal(&guards, &"x".repeat(49), Some(100)).expect("it has shrunk");
        assert!(refusal.contains("from 100 bytes to 49, by more than 50%"), "{refusal}");
    }
}
