//! Validator of the syntax of a value, and of emptiness in its format.

use super::{Form, rejected};
use async_trait::async_trait;
use reloader_engine::types::{Failure, Snapshot};
use reloader_source::validator::{Candidate, Rejection, Validator};
use reloader_util::sanitize::sanitize;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Validator that parses a value on a blocking thread.
pub(super) struct ContentCheck {
    rules: Arc<Rules>,
    limit: Duration,
    /// Permit of the only concurrent check. A check continues on its thread after its timeout; the
    /// next check waits for it, so that a source uses at most one thread.
    permit: Arc<Semaphore>,
}

/// Rules of a [`ContentCheck`].
pub(super) struct Rules {
    /// Format of the value.
    pub(super) form: Form,
    /// Whether empty documents are rejected.
    pub(super) not_empty: bool,
}

impl ContentCheck {
    pub(super) fn new(rules: Rules, limit: Duration) -> Self {
        Self { rules: Arc::new(rules), limit, permit: Arc::new(Semaphore::new(1)) }
    }
}

#[async_trait]
impl Validator for ContentCheck {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::transient(format!("the value could not be checked: {error}"))
        };
        let permit =
            Arc::clone(&self.permit).acquire_owned().await.map_err(|error| failed(&error))?;
        let (rules, value) = (Arc::clone(&self.rules), candidate.new.clone());
        let check = spawn_blocking(move || {
            let _permit = permit;
            rules.check(&value)
        });
        check.await.unwrap_or_else(|error| Err(failed(&error)))
    }

    fn time_limit(&self) -> Duration {
        self.limit
    }
}

impl Rules {
    fn check(&self, value: &Snapshot) -> Result<(), Rejection> {
        let form = self.form;
        let empty = form
            .check(&value.content)
            .map_err(|error| rejected(sanitize(&format!("the value is not {form}: {error}"))))?;
        if self.not_empty && empty {
            return Err(rejected(format!("the value is empty ({form}), rejected by `not-empty`")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(rules: &Rules, content: &'static str) -> Option<String> {
        let checked = rules.check(&Snapshot::new(content));
        checked.err().map(|rejection| rejection.message.to_string())
    }

    #[test]
    fn malformed_value_is_rejected() {
        let rules = |form| Rules { form, not_empty: false };
        assert_eq!(rejection(&rules(Form::Yaml), "a: 1"), None);
        let error = rejection(&rules(Form::Json), "a: 1").expect("it is YAML");
        assert!(error.starts_with("the value is not JSON: "), "{error}");
        assert_eq!(rejection(&rules(Form::Utf8), ""), None);
    }

    #[test]
    fn empty_document_is_rejected() {
        let rules = |form| Rules { form, not_empty: true };
        for (form, empty, full) in [
            (Form::Json, "{}", "{\"a\": 1}"),
            (Form::Json, "[]", "0"),
            (Form::Json, "null", "false"),
            (Form::Json, "\" \"", "\"a\""),
            (Form::Toml, "# nothing", "a = 1"),
            (Form::Yaml, "---\n", "a"),
            (Form::Yaml, "{}", "- 1"),
        ] {
            let error = rejection(&rules(form), empty).expect(empty);
            assert_eq!(error, format!("the value is empty ({form}), rejected by `not-empty`"));
            assert_eq!(rejection(&rules(form), full), None, "{full}");
        }
    }
}
