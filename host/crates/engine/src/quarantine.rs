//! What crashes again and again is put in quarantine.

use super::{Role, Settings};
use crate::types::{Failure, FailureKind};
use crate::{
    backoff::Random,
    mutations::{Bug, Bugs},
};
use std::time::Duration;

/// No quarantine is doubled beyond this.
const LONGEST: Duration = Duration::from_secs(3600);

/// Counts the crashes in a row in one role. A failure that is none changes nothing: only what shows that
/// the role works ends the row.
#[derive(Debug)]
pub(crate) struct Crashes {
    role: Role,
    in_a_row: u32,
    /// How many quarantines there were in a row.
    quarantines: u32,
    /// Why it is in quarantine, while it is.
    quarantine: Option<Failure>,
    bugs: Bugs,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pause {
    pub(crate) retry_in: Duration,
    /// If it is a quarantine: after how many crashes in a row.
    pub(crate) quarantined_after: Option<u32>,
}

impl Crashes {
    pub(crate) fn new(role: Role, bugs: Bugs) -> Self {
        Self { role, in_a_row: 0, quarantines: 0, quarantine: None, bugs }
    }

    /// It has failed, perhaps crashed, and perhaps once too often. `retry_in` is the usual pause.
    pub(crate) fn failed(
        &mut self,
        failure: &Failure,
        retry_in: Duration,
        settings: &Settings,
        random: &mut Random,
    ) -> Pause {
        let usual = Pause { retry_in, quarantined_after: None };
        if failure.kind != FailureKind::Crashed {
            return usual;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        let crashes = self.in_a_row;
        if crashes < settings.crashes_allowed || self.bugs.has(Bug::NoQuarantine) {
            return usual;
        }
        let message = format!(
            "{} is in quarantine after {crashes} crashes in a row, the last one: {failure}",
            self.role
        );
        self.quarantine = Some(Failure::new(FailureKind::Crashed, message));
        let exponent =
            if self.bugs.has(Bug::QuarantineDoesNotGrow) { 0 } else { self.quarantines.min(16) };
        self.quarantines += 1;
        let first = settings.quarantine;
        let lasts = first.saturating_mul(1 << exponent).min(LONGEST.max(first));
        // What crashed together is not tried again together.
        let lasts = lasts.mul_f64(1.0 + random.share() * 0.05);
        Pause { retry_in: lasts.max(retry_in), quarantined_after: Some(crashes) }
    }

    /// Why it is in quarantine, if it is.
    pub(crate) fn quarantine(&self) -> Option<&Failure> {
        self.quarantine.as_ref()
    }

    /// It is tried again. One more crash, and it is in quarantine again.
    pub(crate) fn tried(&mut self) {
        self.quarantine = None;
    }

    /// It works.
    pub(crate) fn reset(&mut self) {
        if !self.bugs.has(Bug::CrashesNotForgotten) {
            (self.in_a_row, self.quarantines) = (0, 0);
        }
    }

    /// Somebody insists. Whether there was a quarantine, which ends; the next one is as long as the
    /// first.
    pub(crate) fn insist(&mut self) -> bool {
        self.quarantines = 0;
        self.quarantine.take().is_some()
    }
}
