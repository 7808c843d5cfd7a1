//! What the content says: whether it can be parsed, says anything at all, and fits a schema.

use super::{Form, bad, schema::Schema};
use crate::{
    decode::Format,
    judge::{Candidate, Refusal, Validate},
    model::{Failure, Snapshot},
};
use async_trait::async_trait;
use reloader_util::sanitize::sanitize;
use serde_json::Value;
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
    /// What the value is parsed as; if this is not said, as its media type says.
    pub(super) form: Option<Form>,
    pub(super) schema: Option<Schema>,
    pub(super) not_empty: bool,
}

impl Content {
    pub(super) fn new(rules: Rules, limit: Duration) -> Self {
        Self { rules: Arc::new(rules), limit, turn: Arc::new(Semaphore::new(1)) }
    }
}

#[async_trait]
impl Validate for Content {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Refusal> {
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
    fn check(&self, value: &Snapshot) -> Result<(), Refusal> {
        let form = match (self.form, value.media_type.as_deref()) {
            (Some(form), _) => form,
            (None, media_type) => media_type.and_then(Format::of).map(Form::from).ok_or_else(|| {
                let says = media_type.unwrap_or("nothing");
                let why = format!(
                    "the value does not say that it is JSON, TOML or YAML, but {says}; name its form \
                     with `parse`"
                );
                bad(sanitize(&why))
            })?,
        };
        let parsed = form
            .parse(&value.content)
            .map_err(|error| bad(sanitize(&format!("the value is not {form}: {error}"))))?;
        let Some(parsed) = parsed else { return Ok(()) };
        if self.not_empty && says_nothing(&parsed) {
            return Err(bad(format!("the value says nothing ({form}), which `not-empty` refuses")));
        }
        self.schema.as_ref().map_or(Ok(()), |schema| schema.check(&parsed))
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::String(text) => text.trim().is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(rules: &Rules, content: &'static str, media_type: Option<&str>) -> Option<String> {
        let media_type = media_type.map(Into::into);
        let checked = rules.check(&Snapshot { media_type, ..Snapshot::new(content) });
        checked.err().map(|refusal| refusal.message.to_string())
    }

    #[test]
    fn a_value_is_parsed_as_it_is_said_or_else_as_it_says_itself() {
        let mut rules = Rules { form: None, schema: None, not_empty: false };
        assert_eq!(refusal(&rules, "a: 1", Some("application/yaml")), None);
        let error = refusal(&rules, "a: 1", Some("application/json")).expect("it is YAML");
        assert!(error.starts_with("the value is not JSON: "), "{error}");
        let error = refusal(&rules, "a: 1", Some("text/plain")).expect("not known");
        assert!(error.contains("but text/plain; name its form with `parse`"), "{error}");
        rules.form = Some(Form::Yaml);
        assert_eq!(refusal(&rules, "a: 1", Some("text/plain")), None);
    }

    #[test]
    fn a_value_without_anything_in_it_is_empty() {
        let rules = |form| Rules { form: Some(form), schema: None, not_empty: true };
        for (form, empty, full) in [
            (Form::Json, "{}", "{\"a\": 1}"),
            (Form::Json, "[]", "0"),
            (Form::Json, "null", "false"),
            (Form::Toml, "# nothing", "a = 1"),
            (Form::Yaml, "---\n", "a"),
        ] {
            let error = refusal(&rules(form), empty, None).expect(empty);
            assert_eq!(
                error,
                format!("the value says nothing ({form}), which `not-empty` refuses")
            );
            assert_eq!(refusal(&rules(form), full, None), None, "{full}");
        }
    }
}
