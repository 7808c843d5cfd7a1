//! What a validator implements, and what it answers.

use crate::{Failure, Snapshot, schema::Schema};
use serde::de::DeserializeOwned;

/// Says whether the values of a source may be let through.
///
/// The host makes a fresh instance for each value, so nothing is kept from one to the next. A validator
/// decides by the value alone: there are no files and no connections for it.
///
/// ```
/// use guest_sdk::{Failure, Snapshot, Validator, Verdict};
///
/// /// What a list of hosts has to be like.
/// #[guest_sdk::settings]
/// struct Settings {
///     /// How many hosts there must be.
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
///     fn validate(&mut self, value: &Snapshot, _: Option<&Snapshot>) -> Result<Verdict, Failure> {
///         let hosts = value.content.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
///         let (count, least) = (hosts.count(), self.0.at_least);
///         if count < least as usize {
///             return Ok(Verdict::refused(format!("{count} hosts, and {least} are needed")));
///         }
///         Ok(Verdict::Accepted)
///     }
/// }
///
/// guest_sdk::export!(Hosts: Validator);
///
/// # fn main() {
/// let mut hosts = Hosts::new(Settings { at_least: 2 }).unwrap();
/// let refused = Verdict::refused("1 hosts, and 2 are needed");
/// assert_eq!(hosts.validate(&Snapshot::new("a\n"), None), Ok(refused));
/// assert_eq!(hosts.validate(&Snapshot::new("a\nb\n"), None), Ok(Verdict::Accepted));
/// # }
/// ```
pub trait Validator: Sized {
    /// The settings that the operator gives: a type marked with [`settings`](macro@crate::settings). What
    /// is marked as `connect` or `read` in it grants nothing here.
    type Config: DeserializeOwned + Schema;

    /// Takes the settings. Called once, before anything else.
    ///
    /// # Errors
    ///
    /// [`Failure::config`] for settings that cannot work, whatever the value is.
    fn new(config: Self::Config) -> Result<Self, Failure>;

    /// Judges a value, beside the last good one if there is one.
    ///
    /// # Errors
    ///
    /// What keeps it from judging. The value is not let through then; if the failure is transient, it
    /// is judged again later.
    fn validate(
        &mut self,
        value: &Snapshot,
        previous: Option<&Snapshot>,
    ) -> Result<Verdict, Failure>;
}

/// The answer to [`Validator::validate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The value may be let through.
    Accepted,
    /// It may not, and why, in words for the operator. They should not repeat the value, which may be a
    /// secret. The last good one stays.
    Refused(String),
}

impl Verdict {
    /// Refused, for this reason.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }
}
