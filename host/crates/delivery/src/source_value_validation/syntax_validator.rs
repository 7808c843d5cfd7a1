//! Validator that parses a value, and optionally rejects an empty document.

use super::document_syntax::DocumentFormat;
use crate::serial_blocking_jobs::{BlockingJobs, BlockingOperation};
use async_trait::async_trait;
use reloader_engine::types::{Failure, Snapshot};
use reloader_source::validator::{Candidate, Rejection, Validator};
use reloader_util::sanitize::sanitize;
use std::{sync::Arc, time::Duration};

/// Validator that parses a value on a blocking thread.
pub(super) struct SyntaxCheck {
    rules: Arc<SyntaxRules>,
    limit: Duration,
    checks: BlockingJobs,
}

/// Rules of a [`SyntaxCheck`].
pub(super) struct SyntaxRules {
    /// Format of the value.
    pub(super) format: DocumentFormat,
    /// `true` if empty documents are rejected.
    pub(super) not_empty: bool,
}

impl SyntaxCheck {
    pub(super) fn new(rules: SyntaxRules, limit: Duration) -> Self {
        Self { rules: Arc::new(rules), limit, checks: BlockingJobs::default() }
    }
}

#[async_trait]
impl Validator for SyntaxCheck {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let (rules, value) = (Arc::clone(&self.rules), candidate.new.clone());
        let parsing = BlockingOperation::new("parsing the value", "the value may be large");
        let checked = self.checks.run(parsing, move |()| rules.check(&value)).await;
        checked.unwrap_or_else(|error| {
            Err(Failure::transient(format!("the value could not be validated: {error}")))
        })
    }

    fn time_limit(&self) -> Duration {
        self.limit
    }
}

impl SyntaxRules {
    fn check(&self, value: &Snapshot) -> Result<(), Rejection> {
        let format = self.format;
        let empty =
            format.check(&value.content).map_err(|error| Failure::permanent(sanitize(&error)))?;
        if self.not_empty && empty {
            return Err(Failure::permanent(format!(
                "the value is empty ({format}), rejected by `not-empty`"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(rules: &SyntaxRules, content: &'static str) -> Option<String> {
        let checked = rules.check(&Snapshot::new(content));
        checked.err().map(|rejection| rejection.message.to_string())
    }

    #[test]
    fn malformed_value_is_rejected() {
        let rules = |format| SyntaxRules { format, not_empty: false };
        assert_eq!(rejection(&rules(DocumentFormat::Yaml), "a: 1"), None);
        let error = rejection(&rules(DocumentFormat::Json), "a: 1").expect("it is YAML");
        assert!(error.starts_with("invalid JSON at line 1, column 1: "), "{error}");
        assert_eq!(rejection(&rules(DocumentFormat::Utf8), ""), None);
    }

    #[test]
    fn empty_document_is_rejected() {
        let rules = |format| SyntaxRules { format, not_empty: true };
        for (format, empty, full) in [
            (DocumentFormat::Json, "{}", "{\"a\": 1}"),
            (DocumentFormat::Json, "[]", "0"),
            (DocumentFormat::Json, "null", "false"),
            (DocumentFormat::Json, "\" \"", "\"a\""),
            (DocumentFormat::Toml, "# nothing", "a = 1"),
            (DocumentFormat::Yaml, "---\n", "a"),
            (DocumentFormat::Yaml, "{}", "- 1"),
        ] {
            let error = rejection(&rules(format), empty).expect(empty);
            assert_eq!(error, format!("the value is empty ({format}), rejected by `not-empty`"));
            assert_eq!(rejection(&rules(format), full), None, "{full}");
        }
    }
}
