//! Syntax of a value: whether it can be parsed, and whether it is empty.

use super::{Form, bad};
use async_trait::async_trait;
use reloader_engine::types::{Failure, Snapshot};
use reloader_source::validator::{Candidate, Rejection, Validator};
use reloader_util::sanitize::sanitize;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Parses a value, on a thread of its own: that may take a while.
pub(super) struct Content {
    rules: Arc<Rules>,
    limit: Duration,
    /// A check that was given up goes on to its end; the next one waits for it, so that no more than one
    /// thread is taken.
    turn: Arc<Semaphore>,
}

pub(super) struct Rules {
    /// What the value is parsed as.
    pub(super) form: Form,
    pub(super) not_empty: bool,
}

impl Content {
    pub(super) fn new(rules: Rules, limit: Duration) -> Self {
        Self { rules: Arc::new(rules), limit, turn: Arc::new(Semaphore::new(1)) }
    }
}

#[async_trait]
impl Validator for Content {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let not_made = |why: &dyn std::fmt::Display| {
            Failure::transient(format!("the value could not be looked into: {why}"))
        };
        let turn =
            Arc::clone(&self.turn).acquire_owned().await.map_err(|error| not_made(&error))?;
        let (rules, value) = (Arc::clone(&self.rules), candidate.new.clone());
        let looked = spawn_blocking(move || {
            let _turn = turn;
            rules.check(&value)
        });
        looked.await.unwrap_or_else(|error| Err(not_made(&error)))
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
            .map_err(|error| bad(sanitize(&format!("the value is not {form}: {error}"))))?;
        if self.not_empty && empty {
            return Err(bad(format!("the value is empty ({form}), rejected by `not-empty`")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(rules: &Rules, content: &'static str) -> Option<String> {
        let checked = rules.check(&Snapshot::new(content));
        checked.err().map(|refusal| refusal.message.to_string())
    }

    #[test]
    fn malformed_value_is_rejected() {
        let rules = |form| Rules { form, not_empty: false };
        assert_eq!(refusal(&rules(Form::Yaml), "a: 1"), None);
        let error = refusal(&rules(Form::Json), "a: 1").expect("it is YAML");
        assert!(error.starts_with("the value is not JSON: "), "{error}");
        assert_eq!(refusal(&rules(Form::Utf8), ""), None);
    }

    #[test]
    fn a_value_without_anything_in_it_is_empty() {
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
            let error = refusal(&rules(form), empty).expect(empty);
            assert_eq!(error, format!("the value is empty ({form}), rejected by `not-empty`"));
            assert_eq!(refusal(&rules(form), full), None, "{full}");
        }
    }
}
