//! Validators: accept or reject a new value before it is published.

use async_trait::async_trait;
use reloader_engine::types::{Failure, Snapshot, SourceName};
use std::{sync::Arc, time::Duration};

/// New value that is to be validated.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Source of the value.
    pub source: &'a SourceName,
    /// New value.
    pub new: &'a Snapshot,
    /// Last good value, if there is one.
    pub before: Option<&'a Snapshot>,
}

/// Reason of a rejection. The last good value stays published.
///
/// After a transient failure ([`FailureKind::is_transient`]), such as a validator that cannot run, the same value
/// is validated again with exponential backoff. Otherwise the value itself is invalid, and only a different value
/// is validated.
///
/// [`FailureKind::is_transient`]: reloader_engine::types::FailureKind::is_transient
pub type Rejection = Failure;

/// Validator of new values.
#[async_trait]
pub trait Validator: Send + Sync {
    /// Validates a value. The source is still read and watched during the validation. A newer value replaces this
    /// one: the driver then drops the future.
    ///
    /// # Errors
    ///
    /// Fails with the reason of the [`Rejection`], for the operator. The message must not contain the value,
    /// which may be secret.
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection>;

    /// Returns the time limit of one validation. The driver drops a validation that exceeds it, rejects the value
    /// and retries later. Default: [`VALIDATION_TIMEOUT`].
    fn time_limit(&self) -> Duration {
        VALIDATION_TIMEOUT
    }
}

/// Default time limit of one validation.
pub const VALIDATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Validation as a function. It must not block.
pub type Check = Arc<dyn Fn(&Snapshot) -> Result<(), String> + Send + Sync>;

/// Validator that calls a function. Its rejections are permanent.
pub struct FnValidator(pub Check);

#[async_trait]
impl Validator for FnValidator {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let Self(check) = self;
        check(candidate.new).map_err(Failure::permanent)
    }
}

/// Sequence of validators. The first rejection ends the sequence, because a later validator may rely on the checks of
/// earlier ones. Each validator has its own time limit.
pub struct ValidatorChain(pub Vec<Arc<dyn Validator>>);

#[async_trait]
impl Validator for ValidatorChain {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        for validator in &self.0 {
            validate_within_time_limit(&**validator, candidate).await?;
        }
        Ok(())
    }

    fn time_limit(&self) -> Duration {
        let limits = self.0.iter().map(|validator| validator.time_limit());
        limits.fold(Duration::ZERO, Duration::saturating_add)
    }
}

/// Validates a value. A validation that exceeds its time limit is a transient failure.
pub(crate) async fn validate_within_time_limit(
    validator: &dyn Validator,
    candidate: &Candidate<'_>,
) -> Result<(), Rejection> {
    let limit = validator.time_limit();
    tokio::time::timeout(limit, validator.validate(candidate)).await.unwrap_or_else(|_| {
        Err(Failure::transient(format!("the validation timed out after {limit:?}")))
    })
}
