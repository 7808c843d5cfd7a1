//! Trait of a validator plugin and the type of its result.

use crate::{Failure, Snapshot, schema::Schema};
use serde::de::DeserializeOwned;

/// A check of a source's values before the host publishes them.
///
/// The host creates a new instance for each value, so a validator has no state between values. A validator
/// has no access to files and connections.
///
/// ```
/// use guest_sdk::{Failure, Snapshot, Validator, Validation};
///
/// /// Constraints of a list of hosts.
/// #[guest_sdk::settings]
/// struct Settings {
///     /// Minimum number of hosts.
///     #[setting(default = 1)]
///     at_least: u32,
/// }
///
/// struct Hosts(Settings);
///
/// impl Validator for Hosts {
///     type Config = Settings;
///
///     fn new(config: Settings) -> Result<Self, Failure> {
///         Ok(Self(config))
///     }
///
///     fn validate(&mut self, value: &Snapshot, _: Option<&Snapshot>) -> Result<Validation, Failure> {
///         let hosts = value.content.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
///         let (count, least) = (hosts.count(), self.0.at_least);
///         if count < least as usize {
///             return Ok(Validation::rejected(format!("{count} hosts, but at least {least} are required")));
///         }
///         Ok(Validation::Accepted)
///     }
/// }
///
/// guest_sdk::export!(Hosts: Validator);
///
/// # fn main() {
/// let mut hosts = Hosts::new(Settings { at_least: 2 }).unwrap();
/// let rejected = Validation::rejected("1 hosts, but at least 2 are required");
/// assert_eq!(hosts.validate(&Snapshot::new("a\n"), None), Ok(rejected));
/// assert_eq!(hosts.validate(&Snapshot::new("a\nb\n"), None), Ok(Validation::Accepted));
/// # }
/// ```
pub trait Validator: Sized {
    /// Settings of the validator: a type with the attribute [`settings`](macro@crate::settings). The
    /// annotations `connect` and `read` grant nothing to a validator.
    type Config: DeserializeOwned + Schema;

    /// Creates an instance from the operator's settings. The host calls this function once, before
    /// [`validate`](Self::validate).
    ///
    /// # Errors
    ///
    /// Returns [`Failure::config`] for invalid settings.
    fn new(config: Self::Config) -> Result<Self, Failure>;

    /// Validates a value. `previous` is the last published value, if any.
    ///
    /// # Errors
    ///
    /// Returns a failure if the check cannot be performed. The host then does not publish the value. After
    /// a transient failure, the host validates the value again later.
    fn validate(
        &mut self,
        value: &Snapshot,
        previous: Option<&Snapshot>,
    ) -> Result<Validation, Failure>;
}

/// Decision about a new value, returned by [`Validator::validate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validation {
    /// The host publishes the value.
    Accepted,
    /// The host rejects the value and keeps the last published one. The reason is a message for the
    /// operator. It should not repeat the value, which may be secret.
    Rejected(String),
}

impl Validation {
    /// Creates a rejection with a reason.
    pub fn rejected(reason: impl Into<String>) -> Self {
        Self::Rejected(reason.into())
    }
}
