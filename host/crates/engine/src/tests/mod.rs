//! Unit tests of the engine. The clock stands still between steps.

mod contract;
mod harness;
mod quarantine;
mod validation;

use super::*;
use crate::types::{Cursor, Event, FailureKind, Outcome};
use harness::*;

/// Mutations that the simulation cannot detect, each with the check that does.
pub(super) const NAMED_CHECKS: [(Mutation, fn(Mutations)); 4] = [
    (Mutation::UnchangedConfirmsNewerValue, validation::check_unchanged_for_superseded_value),
    (Mutation::NoBackoff, check_backoff_growth),
    (Mutation::RetryAfterIgnored, check_retry_after),
    (Mutation::NoPollJitter, check_first_poll_jitter),
];

#[test]
fn polling_fetches_at_start_and_interval() {
    let mut bench = bench(Strategy::Polling);
    assert_eq!(bench.opening(), None);
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
    assert!(bench.wait_for_deadline().fetch().is_some());
    assert_eq!(bench.answer(changed("b")).published(), ["b"]);
    let before = bench.now;
    assert!(bench.wait_for_deadline().fetch().is_some());
    let period = bench.now - before;
    assert!((9.4..=10.6).contains(&period.as_secs_f64()), "{period:?}");
}

#[test]
fn poll_sends_cursor_of_published_value() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    assert_eq!(bench.fetch().expect("due").1, Some(Cursor::new("a")));
    assert_eq!(bench.answer(Ok(Outcome::Unchanged)).published(), [""; 0]);
}

#[test]
fn equal_value_republished_with_force_reload_only() {
    let mut quiet = bench(Strategy::Polling);
    quiet.answer(changed("a")).wait_for_deadline();
    assert_eq!(quiet.answer(changed("a")).published(), [""; 0]);

    let mut forced = bench(Strategy::Polling);
    forced.engine.settings.force_reload = true;
    forced.answer(changed("a")).wait_for_deadline();
    assert_eq!(forced.answer(changed("a")).published(), ["a"]);
}

/// The fetch is unconditional, so that a change before the arming is not lost.
#[test]
fn armed_watch_triggers_fetch() {
    let mut bench = bench(Strategy::Realtime);
    let watch =
        bench.answer(changed("a")).opening().expect("the watch opens after the first fetch");
    bench.step(Input::Armed(watch));
    assert_eq!(bench.fetch().expect("a fetch").1, None, "the fetch is unconditional");
    assert_eq!(bench.answer(changed("b")).published(), ["b"]);

    bench.step(Input::WatchLost(watch, transient_failure())).wait_for_deadline();
    let again = bench.opening().expect("reopened");
    assert!(bench.step(Input::Armed(again)).fetch().is_some());
}

/// The result of the fetch in flight may be older than the watch.
#[test]
fn watch_armed_during_fetch_triggers_refetch() {
    let mut bench = bench(Strategy::Hybrid);
    let watch =
        bench.answer(changed("a")).opening().expect("the watch opens after the first fetch");
    let (second, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    assert_eq!(bench.step(Input::Armed(watch)).fetch(), None);
    bench.step(Input::Fetched(second, changed("b")));
    assert_eq!(bench.published(), ["b"]);
    assert!(bench.fetch().is_some(), "the fetched value may be older than the watch");
}

#[test]
fn dirty_event_triggers_unconditional_fetch() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settle().expect("watching");
    bench.step(Input::Watched(watch, Event::Dirty));
    assert_eq!(bench.fetch().expect("a fetch").1, None);
}

#[test]
fn dirty_event_during_fetch_triggers_refetch() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settle().expect("watching");
    bench.step(Input::Watched(watch, Event::Dirty));
    let (session, _) = bench.fetch().expect("in flight");
    assert_eq!(bench.step(Input::Watched(watch, Event::Dirty)).fetch(), None);
    bench.step(Input::Fetched(session, changed("b")));
    assert_eq!(bench.published(), ["b"]);
    assert_eq!(bench.answer(changed("c")).published(), ["c"]);
    assert_eq!(bench.fetch(), None);
}

/// A fetch result equal to the value before the watch event counts as older.
#[test]
fn older_fetch_result_keeps_watch_value() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settle().expect("watching");
    bench.step(Input::ReloadNow);
    let (session, _) = bench.fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("new"))));
    assert_eq!(bench.published(), ["new"]);
    bench.step(Input::Fetched(session, changed("a")));
    assert_eq!(bench.published(), [""; 0]);
    assert_eq!(bench.fetch(), None, "the fetch result counts as older");
    // If the source has changed back, the next poll finds out, even without a watch event.
    while bench.fetch().is_none() {
        let watched = Input::Watched(watch, Event::Alive);
        bench.wait_for_deadline();
        if bench.fetch().is_none() {
            bench.step(watched);
        }
    }
    assert_eq!(bench.fetch().expect("due").1, None, "the poll is unconditional");
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
}

#[test]
fn fetch_result_equal_to_watch_ignored() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settle().expect("watching");
    let (session, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("new"))));
    bench.step(Input::Fetched(session, changed("new")));
    assert_eq!(bench.effects, []);
}

/// A result that is neither the old value nor the watch's may be older or newer than the watch
/// event.
#[test]
fn ambiguous_fetch_result_triggers_refetch() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settle().expect("watching");
    let (session, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("new"))));
    bench.step(Input::Fetched(session, changed("newer?")));
    assert_eq!(bench.published(), [""; 0]);
    assert_eq!(bench.answer(changed("newer")).published(), ["newer"]);
}

#[test]
fn late_event_of_lost_watch_ignored() {
    let mut bench = bench(Strategy::Realtime);
    let watch = bench.settle().expect("watching");
    bench.step(Input::WatchLost(watch, transient_failure()));
    bench.step(Input::Watched(watch, Event::Changed(value("late"))));
    assert_eq!(bench.published(), [""; 0]);
    assert!(bench.step(Input::Armed(watch)).effects.is_empty());
}

/// With strategy `realtime` the reconcile poll stays scheduled as before.
#[test]
fn lost_watch_starts_polling_in_hybrid() {
    let mut hybrid = bench(Strategy::Hybrid);
    let watch = hybrid.settle().expect("watching");
    let reconcile_at = hybrid.engine.fetch.next().expect("reconciling");
    assert!(reconcile_at - hybrid.now > Duration::from_secs(20));
    hybrid.step(Input::WatchLost(watch, transient_failure()));
    let poll_at = hybrid.engine.fetch.next().expect("polling");
    assert!(poll_at - hybrid.now < Duration::from_secs(11));

    let mut realtime = bench(Strategy::Realtime);
    let watch = realtime.settle().expect("watching");
    let reconcile_at = realtime.engine.fetch.deadline();
    realtime.step(Input::WatchLost(watch, transient_failure()));
    assert_eq!(realtime.engine.fetch.deadline(), reconcile_at);
}

#[test]
fn silent_watch_reopened_and_source_fetched() {
    let mut bench = bench(Strategy::Realtime);
    bench.settle();
    bench.engine.settings.stale_after = Duration::from_secs(1000);
    bench.wait(Duration::from_secs(59));
    assert!(!bench.effects.contains(&Effect::CloseWatch));
    bench.wait(Duration::from_secs(1));
    assert!(bench.effects.contains(&Effect::CloseWatch));
    assert!(bench.fetch().is_some());
    bench.wait(Duration::from_secs(1));
    assert!(bench.opening().is_some());
}

#[test]
fn alive_events_keep_value_fresh() {
    let mut bench = bench(Strategy::Realtime);
    bench.engine.settings.reconcile = Duration::from_secs(100_000);
    let watch = bench.settle().expect("watching");
    for _ in 0..20 {
        bench.now += Duration::from_secs(50);
        bench.step(Input::Watched(watch, Event::Alive));
        assert_eq!(bench.effects, []);
    }
}

#[test]
fn backoff_grows_until_success() {
    check_backoff_growth(Mutations::default());
}

fn check_backoff_growth(mutations: Mutations) {
    let mut bench = polling_bench(mutations);
    bench.answer(changed("a"));
    let mut longest = Duration::ZERO;
    bench.wait_for_deadline();
    for _ in 0..40 {
        let failed_at = bench.now;
        bench.answer(Err(transient_failure()));
        while bench.fetch().is_none() {
            bench.wait_for_deadline();
        }
        longest = longest.max(bench.now - failed_at);
    }
    assert!(longest > Duration::from_secs(5), "{longest:?}");
    assert!(longest <= Duration::from_secs(10), "{longest:?}");
    bench.answer(changed("b"));
    assert_eq!(bench.published(), ["b"]);
    bench.wait_for_deadline().answer(Err(transient_failure()));
    let delay = bench.engine.fetch.next().expect("scheduled") - bench.now;
    assert!(delay <= Duration::from_millis(100), "{delay:?}");
}

#[test]
fn retry_after_honored() {
    check_retry_after(Mutations::default());
}

fn check_retry_after(mutations: Mutations) {
    let mut bench = polling_bench(mutations);
    let kind = FailureKind::Transient { retry_after: Some(Duration::from_secs(77)) };
    bench.answer(Err(Failure::new(kind, "busy")));
    let delay = bench.engine.fetch.next().expect("scheduled") - bench.now;
    assert!(delay >= Duration::from_secs(77), "{delay:?}");
}

#[test]
fn failures_make_value_stale_until_success() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Err(transient_failure()));
    let mut stale = 0;
    for _ in 0..60 {
        bench.wait(Duration::from_secs(1));
        stale += bench.effects.iter().filter(|e| matches!(e, Effect::Stale(_))).count();
        assert_eq!(bench.published(), [""; 0]);
        if bench.fetch().is_some() {
            bench.answer(Err(transient_failure()));
        }
    }
    assert_eq!(stale, 1, "staleness is reported once");
    while bench.fetch().is_none() {
        bench.wait_for_deadline();
    }
    bench.answer(changed("a"));
    assert_eq!(bench.effects, [Effect::Report(Report::Recovered), Effect::Fresh]);
}

#[test]
fn removal_published_after_confirmation() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settle().expect("watching");
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_millis(200)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), ["(removed)"]);
    bench.step(Input::Watched(watch, Event::Dirty)).answer(changed("a"));
    assert_eq!(bench.published(), ["a"], "the value is new after its removal");
}

/// A value that returns before the confirmation of its removal stays published.
#[test]
fn short_removal_not_published() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settle().expect("watching");
    bench.step(Input::Watched(watch, Event::Removed));
    bench.step(Input::Watched(watch, Event::Changed(value("a"))));
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.published(), [""; 0]);
}

#[test]
fn removal_after_outage_confirmed_later() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Err(transient_failure()));
    while bench.fetch().is_none() {
        bench.wait_for_deadline();
    }
    bench.answer(Ok(Outcome::Absent));
    assert!(bench.wait(Duration::from_secs(2)).fetch().is_none());
    bench.wait(Duration::from_secs(1)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), ["(removed)"]);
}

#[test]
fn empty_value_published_after_confirmation() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(changed(""));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_millis(200));
    assert_eq!(bench.answer(changed("")).published(), [""]);
}

#[test]
fn first_polls_spread_over_interval() {
    check_first_poll_jitter(Mutations::default());
}

fn check_first_poll_jitter(mutations: Mutations) {
    let start = Instant::now();
    let mut first_polls: Vec<_> = (0..100)
        .map(|seed| {
            let settings = Settings::new(Strategy::Polling, Duration::from_secs(10));
            let engine = Engine::with_mutations(settings, seed, start, mutations);
            let mut bench = started(engine, start);
            bench.answer(changed("a")).wait_for_deadline();
            (bench.now - start).as_millis()
        })
        .collect();
    first_polls.sort_unstable();
    first_polls.dedup();
    assert!(first_polls.len() > 90, "{first_polls:?}");
    assert!(first_polls[90] - first_polls[5] > 6_000, "the polls are spread over the interval");
}

/// The confirmation delay starts anew with the first report after the outage.
#[test]
fn outage_cancels_pending_removal() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Ok(Outcome::Absent)).wait_for_deadline();
    bench.answer(Err(transient_failure()));
    bench.wait(Duration::from_secs(10)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_secs(1)).step(Input::ReloadNow).answer(changed("a"));
    assert_eq!(bench.published(), [""; 0]);
}

#[test]
fn missing_first_value_reported_once() {
    let mut bench = bench(Strategy::Polling);
    let not_found_report = [Effect::Report(Report::NothingYet)];
    assert_eq!(bench.answer(Ok(Outcome::Absent)).effects, not_found_report);
    bench.wait_for_deadline();
    assert_eq!(bench.answer(Ok(Outcome::Absent)).effects, []);
    bench.wait_for_deadline();
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
}

#[test]
fn short_lived_watch_backs_off() {
    let mut bench = bench(Strategy::Realtime);
    let start = bench.now;
    bench.answer(changed("a"));
    let mut opened = 0;
    while bench.now < start + Duration::from_secs(60) {
        if let Some(watch) = bench.opening() {
            opened += 1;
            bench.step(Input::Armed(watch));
            bench.step(Input::Watched(watch, Event::Alive));
            bench.step(Input::WatchLost(watch, transient_failure()));
        }
        bench.wait_for_deadline();
    }
    assert!(opened < 40, "{opened} times in a minute");
}

/// An alive event confirms the value only after the announced change was reported.
#[test]
fn alive_with_unreported_change_confirms_nothing() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settle().expect("watching");
    bench.step(Input::Watched(watch, Event::Dirty));
    let (session, _) = bench.fetch().expect("in flight");
    bench.confirmations = 0;
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmations, 0);
    bench.step(Input::Fetched(session, changed("a")));
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmations, 2);
    // After a failed fetch, a watch event reports the announced change.
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Err(transient_failure()));
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmations, 4);
}

fn absent_after_outage() -> Bench {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Err(transient_failure()));
    while bench.fetch().is_none() {
        bench.wait_for_deadline();
    }
    bench.answer(Ok(Outcome::Absent));
    bench
}

/// Absent and empty are separate reports: a change between them restarts the confirmation delay.
#[test]
fn empty_after_absent_restarts_confirmation() {
    let mut bench = absent_after_outage();
    bench.step(Input::ReloadNow).answer(changed(""));
    bench.wait(Duration::from_secs(2)).step(Input::ReloadNow).answer(changed(""));
    assert_eq!(bench.published(), [""; 0]);
}

#[test]
fn removal_after_restart_confirmed_later() {
    let now = Instant::now();
    let engine = Engine::new(Settings::new(Strategy::Polling, Duration::from_secs(10)), 7, now);
    let mut bench = started(engine.resume(Revision::default().next(), Some(value("a"))), now);
    bench.answer(Ok(Outcome::Absent));
    bench.wait(Duration::from_secs(2)).step(Input::ReloadNow).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_secs(1)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), ["(removed)"]);
}

#[test]
fn stale_reason_names_pending_removal() {
    let mut bench = absent_after_outage();
    bench.wait(Duration::from_secs(30));
    let why = bench.effects.iter().find_map(|effect| match effect {
        Effect::Stale(failure) => Some(failure.message.to_string()),
        _ => None,
    });
    assert_eq!(
        why.as_deref(),
        Some("the source reports an absent or empty value; confirmation is pending")
    );
}

#[test]
fn pending_removal_keeps_poll_interval() {
    let mut settings = Settings::new(Strategy::Polling, Duration::from_secs(1));
    settings.confirm = Duration::from_secs(10);
    let mut bench = bench_with_settings(settings, 7);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Ok(Outcome::Absent));
    assert!(bench.wait(Duration::from_secs(2)).fetch().is_some());
}

/// Only an explicit reload ends the `retry-after` period.
#[test]
fn retry_after_outlasts_watch_events() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settle().expect("watching");
    let kind = FailureKind::Transient { retry_after: Some(Duration::from_secs(77)) };
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Err(Failure::new(kind, "busy")));
    let busy_until = bench.now + Duration::from_secs(77);
    let honored = |bench: &Bench| bench.engine.next_fetch() >= Some(busy_until);
    bench.step(Input::Watched(watch, Event::Dirty));
    assert!(honored(&bench));
    bench.step(Input::Watched(watch, Event::Removed));
    assert!(honored(&bench), "confirmation of a removal");
    bench.validate = |_| Err(transient_failure());
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    assert!(honored(&bench), "retry of a rejected value");
    bench.step(Input::WatchLost(watch, transient_failure()));
    assert!(honored(&bench), "polling replaces the watch");
    assert!(bench.step(Input::ReloadNow).fetch().is_some(), "explicit reload");
}

#[test]
fn reload_revalidates_rejected_value() {
    let mut bench = bench(Strategy::Polling);
    bench.validate = |_| Err(Failure::new(FailureKind::Permanent, "rejected"));
    assert_eq!(bench.answer(changed("a")).published(), [""; 0]);
    bench.validate = |_| Ok(());
    bench.wait_for_fetch().answer(changed("a"));
    assert_eq!(bench.published(), [""; 0], "no retry after a permanent rejection");
    assert_eq!(bench.step(Input::ReloadNow).answer(changed("a")).published(), ["a"]);
}

/// If the published and the rejected value have the same cursor, the fetch sends none.
#[test]
fn weak_cursor_of_rejected_value_withheld() {
    let written = |content: &str, cursor: &str| {
        let cursor = Some(Cursor::new(cursor));
        Ok(Outcome::Changed(Snapshot { cursor, ..value(content) }))
    };
    let mut bench = bench(Strategy::Polling);
    bench.engine.settings.stale_after = Duration::from_secs(3600);
    bench.answer(written("a", "this second"));
    bench.validate = |_| Err(Failure::new(FailureKind::Permanent, "rejected"));
    bench.step(Input::ReloadNow).answer(written("b", "this second"));
    assert_eq!(bench.wait_for_deadline().fetch().expect("due").1, None);
    // A later report of the rejected value may also have this cursor.
    bench.answer(written("b", "before"));
    assert!(bench.wait_for_deadline().fetch().expect("due").1.is_some());
    bench.answer(written("b", "this second"));
    assert_eq!(bench.wait_for_deadline().fetch().expect("due").1, None);
}

/// Only a fetch that starts after the confirmation delay confirms a removal.
#[test]
fn removal_confirmed_by_later_fetch_only() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settle().expect("watching");
    // A result that is delayed in transit confirms nothing.
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Ok(Outcome::Absent));
    let (session, _) = bench
        .step(Input::Watched(watch, Event::Dirty))
        .fetch()
        .expect("fetch after the dirty event");
    bench.wait(Duration::from_secs(1)).step(Input::Fetched(session, Ok(Outcome::Absent)));
    assert_eq!(bench.published(), [""; 0]);
    let (session, _) = bench.fetch().expect("refetch");
    // A watch event confirms nothing either.
    bench.step(Input::Watched(watch, Event::Removed));
    assert_eq!(bench.published(), [""; 0]);
    bench.step(Input::Fetched(session, changed("a")));
    assert_eq!(bench.answer(changed("a")).published(), [""; 0]);
}
