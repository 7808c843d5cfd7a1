//! Mutations: seeded bugs, each behind a switch that only tests can turn on.
//!
//! They measure the strength of the tests. With any one mutation active, the simulation fails, or
//! the test named in the documentation of the mutation does. Builds other than tests contain no
//! switch, and the compiler removes the mutated branches.

macro_rules! mutations {
    ($($(#[$doc:meta])* $mutation:ident,)*) => {
        /// Seeded bug. The simulation detects it unless its documentation names another test.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Mutation {
            $($(#[$doc])* $mutation,)*
        }

        #[cfg(test)]
        impl Mutation {
            pub(crate) const ALL: &[Self] = &[$(Self::$mutation,)*];
        }
    };
}

mutations! {
    /// No fetch follows the arming of a watch: a change before the arming is lost.
    NoFetchAfterArming,
    /// A dirty event during a fetch does not cause a refetch.
    DirtyDuringFetchDropped,
    /// A fetch result is accepted from any session.
    LateAnswerAccepted,
    /// A watch event is accepted from any session.
    LateEventAccepted,
    /// A fetch result replaces a newer value from the watch.
    OlderFetchResultPublished,
    /// A fetch result that is neither the old value nor the watch's is dropped without a refetch.
    AmbiguousFetchResultDropped,
    /// A fetch after a dirty event sends the cursor, so that a weak cursor hides the change.
    ConditionalFetchAfterDirty,
    /// `Unchanged` confirms the value that is published now, instead of the one at the start of the
    /// fetch. Test: `unchanged_for_superseded_value_triggers_refetch`.
    UnchangedConfirmsNewerValue,
    /// A cursor is sent although it also stands for a rejected value, which hides that value.
    AmbiguousCursorSent,
    /// A removal is published without confirmation.
    RemovalUnconfirmed,
    /// A second report confirms a removal, even from a fetch that started before the delay ended.
    RemovalConfirmedByEarlierFetch,
    /// A pending removal from before an outage counts after the outage.
    PendingRemovalSurvivesOutage,
    /// After a restart, the confirmation of a removal is not delayed longer than usual.
    ShortConfirmationAfterRestart,
    /// A failure removes the value.
    FailureRemovesValue,
    /// A failed fetch is not retried.
    FailedFetchNotRetried,
    /// A lost watch is not opened again.
    LostWatchNotReopened,
    /// No reconcile poll happens while the watch is live.
    NoReconcilePoll,
    /// Strategy `hybrid` does not poll while its watch is down.
    NoHybridPolling,
    /// Calls have no deadline.
    NoDeadline,
    /// A live watch has no liveness limit.
    NoLivenessLimit,
    /// A new value is compared with the last accepted value, not with the last attempted one.
    ComparedWithLastAccepted,
    /// The cursor advances before the value is accepted.
    CursorAdvancesBeforeAcceptance,
    /// A value rejected for a transient reason is not validated again.
    TransientRejectionNotRetried,
    /// The revision starts at zero after each restart.
    RevisionResetOnRestart,
    /// Freshness: an alive event confirms the value although fetching fails.
    AliveHidesFailure,
    /// Freshness: an alive event confirms the value although a change is outstanding.
    AliveHidesUnreportedChange,
    /// Freshness: a value never becomes stale.
    NeverStale,
    /// Freshness: a value from before a restart counts as fresh.
    ResumedValueFresh,
    /// Freshness: a failure does not replace the reason of an unconfirmed value.
    UnconfirmedReasonNotReplaced,
    /// Freshness: a crash does not make the value stale.
    CrashKeepsValueFresh,
    /// An exceeded deadline does not count as a crash.
    TimeoutIsNoCrash,
    /// Repeated crashes cause no quarantine.
    NoQuarantine,
    /// The quarantine of a watch never ends.
    QuarantineNeverEnds,
    /// The quarantine does not become longer after further crashes.
    QuarantineNotDoubled,
    /// A dirty event ends the quarantine of fetching.
    DirtyEndsQuarantine,
    /// An explicit reload does not end the quarantine of the watch.
    ReloadKeepsWatchQuarantine,
    /// Arming a watch resets its crash count, so that a plugin that crashes afterwards is never
    /// quarantined.
    ArmingResetsCrashCount,
    /// Successful calls do not reset the crash count.
    CrashCountNotReset,
    /// A removal is published in spite of a pin.
    RemovalIgnoresPin,
    /// A value that was being validated replaces a pinned one.
    ValidationSurvivesPin,
    /// A restart removes the pin.
    PinLostOnRestart,
    /// No fetch follows an unpin.
    NoFetchAfterUnpin,
    /// `Unchanged` confirms the pinned value, although it refers to the cursor of the held-back
    /// one.
    UnchangedConfirmsPinnedValue,
    /// The retry delay does not grow. Test: `backoff_grows_until_success`.
    NoBackoff,
    /// A `retry-after` is ignored. Test: `retry_after_honored`.
    RetryAfterIgnored,
    /// A `retry-after` is ignored when another event schedules a fetch.
    RetryAfterBypassed,
    /// The poll interval has no jitter. Test: `first_polls_spread_over_interval`.
    NoPollJitter,
}

/// Active mutation, if any.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mutations {
    #[cfg(test)]
    pub(crate) active: Option<Mutation>,
}

impl Mutations {
    #[cfg(test)]
    pub(crate) fn has(self, mutation: Mutation) -> bool {
        self.active == Some(mutation)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "same signature as in tests")]
    pub(crate) const fn has(self, _: Mutation) -> bool {
        false
    }
}
