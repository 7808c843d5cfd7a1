//! Whether a new value may be let through: what is asked before it is published.

use async_trait::async_trait;
use reloader_engine::types::{Failure, FailureKind, Snapshot, SourceName};
use std::{sync::Arc, time::Duration};

/// A value that has not been let through yet.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Whose value it is.
    pub source: &'a SourceName,
    /// The value.
    pub new: &'a Snapshot,
    /// The last good one, if there is one.
    pub before: Option<&'a Snapshot>,
}

/// Why a value is not let through; the last good one stays.
///
/// One that may go away ([`FailureKind::is_passing`]), as that of a check that could not be made, is
/// asked for again with growing pauses. Otherwise the value itself is bad, and only a different one is
/// tried.
pub type Rejection = Failure;

/// Says whether a value may be let through.
#[async_trait]
pub trait Validator: Send + Sync {
    /// Looks at one value. While it does so, the source is read and watched; a newer value takes this
    /// one's place, and what was begun for it is dropped.
    ///
    /// # Errors
    ///
    /// The [`Rejection`], in words for the operator that do not repeat the value: it may be a secret.
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection>;

    /// One that takes longer is given up: the value is not let through, and tried again later.
    fn time_limit(&self) -> Duration {
        TIME_LIMIT
    }
}

/// What a judgement may take unless it is said otherwise.
pub const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A check written as a function: it computes, and does not wait.
pub type Check = Arc<dyn Fn(&Snapshot) -> Result<(), String> + Send + Sync>;

/// A function, as what says whether a value may be let through. What it refuses is bad.
pub struct FnValidator(pub Check);

#[async_trait]
impl Validator for FnValidator {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let Self(check) = self;
        check(candidate.new).map_err(|reason| Failure::new(FailureKind::Permanent, reason))
    }
}

/// Several, one after the other: the first refusal counts, since what follows may build upon what went
/// before. Each has its own time.
pub struct ValidatorChain(pub Vec<Arc<dyn Validator>>);

#[async_trait]
impl Validator for ValidatorChain {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        for one in &self.0 {
            in_time(&**one, candidate).await?;
        }
        Ok(())
    }

    fn time_limit(&self) -> Duration {
        self.0.iter().fold(Duration::ZERO, |sum, one| sum.saturating_add(one.time_limit()))
    }
}

/// A judgement, or that there was none in time.
pub(crate) async fn in_time(judge: &dyn Validator, value: &Candidate<'_>) -> Result<(), Rejection> {
    let limit = judge.time_limit();
    tokio::time::timeout(limit, judge.validate(value)).await.unwrap_or_else(|_| {
        Err(Failure::transient(format!("the check of the value did not end within {limit:?}")))
    })
}
