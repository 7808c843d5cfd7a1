//! What fails; what crashes, how often in a row, and whether it is kept in quarantine.

use super::{Oracle, Watching};
use crate::{
    Report, Role,
    types::{Failure, FailureKind},
};
use std::time::{Duration, Instant};

/// The crashes in one role.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    in_a_row: u32,
    quarantines: u32,
    /// It is in quarantine, unless somebody insists.
    pub(super) until: Option<Instant>,
}

impl Crashes {
    /// It works.
    pub(super) fn reset(&mut self) {
        (self.in_a_row, self.quarantines) = (0, 0);
    }
}

const FOREVER: Duration = Duration::from_secs(1 << 30);

impl Oracle {
    pub(super) fn fetch_failed(&mut self, failure: Failure) {
        self.trouble = true;
        self.outage = true;
        self.nothing = None;
        self.allowed += 1;
        self.announced.get_or_insert(self.steps);
        self.failed(Role::Reading, &failure);
        self.last_failure = Some(failure);
    }

    pub(super) fn watch_lost(&mut self, now: Instant, failure: &Failure) {
        let asked = asked_pause(failure);
        self.watching =
            Watching::No { since: now, retry_at: now + FOREVER, not_before: now + asked };
        if failure.kind.is_passing() {
            self.trouble = true;
            self.outage = true;
        }
        self.failed(Role::Watching, failure);
        self.allowed += 1;
    }

    /// What a call that is given up has failed with.
    pub(super) fn given_up(&self) -> Failure {
        let transient = FailureKind::Transient { retry_after: None };
        let is_crash = self.settings.silence_is_crash;
        Failure::new(if is_crash { FailureKind::Crashed } else { transient }, "given up")
    }

    fn crashes(&mut self, role: Role) -> &mut Crashes {
        match role {
            Role::Reading => &mut self.reading,
            Role::Watching => &mut self.listening,
        }
    }

    fn failed(&mut self, role: Role, failure: &Failure) {
        if failure.kind == FailureKind::Crashed {
            self.crashed = true;
            self.crashes(role).in_a_row += 1;
        }
    }

    /// A failure that has been reported is no crash that there should be a quarantine for.
    pub(super) fn is_no_quarantine(&mut self, role: Role, failure: &Failure) {
        let allowed = self.settings.crashes_allowed;
        let crashes = self.crashes(role).in_a_row;
        let holds = failure.kind != FailureKind::Crashed || crashes < allowed;
        self.demand(holds, 8, "it crashes and crashes, and is not in quarantine");
    }

    pub(super) fn quarantined(&mut self, now: Instant, report: &Report) {
        let Report::Quarantined { role, failure, crashes, retry_in } = report else { return };
        let (first, allowed) = (self.settings.quarantine, self.settings.crashes_allowed);
        let until = now + *retry_in;
        let books = self.crashes(*role);
        let expected = first * (1 << books.quarantines.min(10));
        let expected = expected.min(Duration::from_secs(3600));
        let counted = *crashes == books.in_a_row && *crashes >= allowed;
        books.quarantines += 1;
        books.until = Some(until);
        let longest = expected.mul_f64(1.05).max(Duration::from_secs(10));
        self.demand(failure.kind == FailureKind::Crashed, 8, "in quarantine, and has not crashed");
        self.demand(counted, 8, "in quarantine after another number of crashes");
        self.demand((expected..=longest).contains(retry_in), 8, "the quarantine's length is wrong");
        self.renewed = true;
        self.quarantined_until = self.quarantined_until.max(Some(until));
        match role {
            Role::Reading => (self.not_before, self.retry_at) = (Some(until), Some(until)),
            Role::Watching => {
                if let Watching::No { retry_at, not_before, .. } = &mut self.watching {
                    (*retry_at, *not_before) = (until, until);
                }
            }
        }
    }

    /// Somebody insists: there is no quarantine any more.
    pub(super) fn lifted(&mut self, now: Instant) {
        self.reading.until = None;
        (self.reading.quarantines, self.listening.quarantines) = (0, 0);
        if self.listening.until.take().is_some()
            && let Watching::No { retry_at, not_before, .. } = &mut self.watching
        {
            (*retry_at, *not_before) = (now, now);
        }
    }

    /// What a value is said to be stale for names the quarantine, where there is one.
    pub(super) fn names_quarantine(&mut self, now: Instant, failure: &Failure) {
        let lasts = |crashes: &Crashes| crashes.until.is_some_and(|until| until > now);
        let (reading, listening) = (lasts(&self.reading), lasts(&self.listening));
        let unheard = &*failure.message == "the source has not answered";
        self.demand(!(unheard && listening), 6, "the reason for being stale is not the quarantine");
        let named = failure.message.contains("in quarantine");
        let doubted = failure.message.contains("doubted");
        // Of a crash that is no quarantine nothing but that crash is said.
        let due = self.renewed || reading && !self.crashed;
        self.demand(!due || named || doubted, 6, "the reason does not name the quarantine");
    }
}

/// How long the source asked not to be called again.
pub(super) fn asked_pause(failure: &Failure) -> Duration {
    match failure.kind {
        FailureKind::Transient { retry_after } => {
            retry_after.unwrap_or_default().min(Duration::from_secs(3600))
        }
        FailureKind::Config
        | FailureKind::Denied
        | FailureKind::Permanent
        | FailureKind::Crashed => Duration::ZERO,
    }
}
