//! Mistakes that an engine like this one can have, each behind a switch that only tests can turn on.
//!
//! They are there to show that the simulation bites: with any one of them it, or the test that is
//! named beside it, fails. Outside of tests no switch exists, and the compiler leaves them out.

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident,)*) => {
        /// A mistake. Where nothing else is said, the simulation finds it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Bug {
            $($(#[$doc])* $bug,)*
        }

        #[cfg(test)]
        impl Bug {
            pub(crate) const ALL: &[Self] = &[$(Self::$bug,)*];
        }
    };
}

bugs! {
    /// Nothing is read after a watch was armed: a change in between is lost.
    NoFetchAfterArming,
    /// A sign of change while a fetch is in flight is forgotten.
    DirtyInFlightForgotten,
    /// An answer is taken whichever session it is for.
    LateAnswerTaken,
    /// An event is taken whichever watch it came from.
    LateEventTaken,
    /// A value that was in flight undoes a newer one from the watch.
    OvertakenPublished,
    /// A value that was in flight while the watch spoke is taken for an older one, for certain.
    OvertakenForgotten,
    /// A fetch that was announced asks with the cursor, and a weak cursor hides the change.
    AnnouncedWithCursor,
    /// That nothing has changed is taken to be about what is published now, not when it was asked.
    /// Test: `unchanged_means_nothing_when_another_value_was_published_meanwhile`.
    UnchangedSinceAnyTime,
    /// A cursor is sent that also stands for a value that was refused, and so hides it.
    RefusedHiddenByCursor,
    /// That there is nothing is believed at once.
    NothingBelievedAtOnce,
    /// That there is nothing is believed for the second time it is said, whenever it was asked.
    NothingBelievedFromBefore,
    /// A doubt from before an outage counts after it.
    DoubtOutlivesOutage,
    /// After a restart, that there is nothing is doubted no longer than at any time.
    RestartIsNoOutage,
    /// A failure removes the value.
    FailureRemoves,
    /// After a failure of the fetch nothing is scheduled any more.
    FailureEndsPolling,
    /// A watch that is lost stays closed.
    LostWatchStaysClosed,
    /// While the watch is live, nothing is read any more.
    NoReconcile,
    /// Hybrid does not poll while its watch is down.
    HybridDoesNotPoll,
    /// A fetch that is never answered is waited for, for ever.
    NoDeadline,
    /// A watch that says nothing is taken for one that has nothing to say.
    SilenceTakenForPeace,
    /// The value is compared with the last good one, not with the last that was tried.
    ComparedWithLastGood,
    /// The cursor moves before the value has been accepted.
    CursorMovesEarly,
    /// A refusal that may go away is not tried again.
    RefusalFinal,
    /// The revision starts anew with each start of the host.
    RevisionStartsAnew,
    /// Freshness: an event that the watch is alive hides that reading fails.
    AliveHidesTrouble,
    /// Freshness: an event that the watch is alive hides that a change was announced.
    AliveHidesChange,
    /// Freshness: it is not said when a value becomes stale.
    NeverStale,
    /// Freshness: a value from before a restart is taken for current.
    ResumedTakenForFresh,
    /// Freshness: why a value from before a restart is not confirmed is not said.
    UnconfirmedForNoReason,
    /// Freshness: a crash does not make a value stale.
    CrashHidden,
    /// A call that was given up has not crashed.
    GivenUpIsNoCrash,
    /// What crashes is never put in quarantine.
    NoQuarantine,
    /// A watch in quarantine stays there.
    QuarantineForEver,
    /// Whatever crashes after a quarantine is put into one as long as the first.
    QuarantineDoesNotGrow,
    /// A plugin that announces a change ends the quarantine of what reads.
    AnnouncedInQuarantine,
    /// Somebody who insists does not end the quarantine of the watch.
    InsistingForgetsTheWatch,
    /// A plugin that arms its watch and then crashes is never put in quarantine.
    ArmingForgivesCrashes,
    /// Crashes are counted that are long ago, with much that went well between.
    CrashesNotForgotten,
    /// A pin holds back values, and lets removals through.
    RemovedInSpiteOfPin,
    /// What was being judged when a value was pinned takes its place.
    JudgementOutlivesPin,
    /// After a restart nothing is pinned any more.
    PinEndsWithRestart,
    /// The source is not read when a pin is taken out.
    UnpinReadsNothing,
    /// That nothing has changed is taken to be about what was pinned, not about what it held back.
    UnchangedSincePinned,
    /// Pauses do not grow. Test: `pauses_grow_and_a_success_resets_them`.
    NoBackoff,
    /// What the source asks for is not obeyed. Test: `retry_after_is_obeyed`.
    RetryAfterIgnored,
    /// What the source asks for is obeyed, unless there is another reason to read.
    RetryAfterCutShort,
    /// All sources poll together. Test: `sources_that_start_together_do_not_poll_together`.
    NoSpread,
}

/// Which mistake is turned on, if any.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bugs {
    #[cfg(test)]
    pub(crate) on: Option<Bug>,
}

impl Bugs {
    #[cfg(test)]
    pub(crate) fn has(self, bug: Bug) -> bool {
        self.on == Some(bug)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the same call as in tests")]
    pub(crate) const fn has(self, _: Bug) -> bool {
        false
    }
}
