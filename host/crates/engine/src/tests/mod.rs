//! The engine's rules, one test each. Time stands still between steps.

mod contract;
mod harness;
mod quarantine;
mod validation;

use super::*;
use crate::types::{Cursor, Event, FailureKind, Outcome};
use harness::*;

/// The mistakes that the simulation does not look for, and what does.
pub(super) const FOUND_BY_NAME: [(Bug, fn(Bugs)); 4] = [
    (Bug::UnchangedSinceAnyTime, validation::unchanged_since_it_was_asked),
    (Bug::NoBackoff, pauses_grow),
    (Bug::RetryAfterIgnored, retry_after_obeyed),
    (Bug::NoSpread, polls_spread),
];

#[test]
fn polling_reads_at_once_and_then_at_the_interval() {
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
fn a_poll_asks_with_the_cursor_of_the_published_value() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    assert_eq!(bench.fetch().expect("due").1, Some(Cursor::new("a")));
    assert_eq!(bench.answer(Ok(Outcome::Unchanged)).published(), [""; 0]);
}

#[test]
fn an_equal_value_is_not_published_again_unless_that_is_wanted() {
    let mut quiet = bench(Strategy::Polling);
    quiet.answer(changed("a")).wait_for_deadline();
    assert_eq!(quiet.answer(changed("a")).published(), [""; 0]);

    let mut forced = bench(Strategy::Polling);
    forced.engine.settings.force_reload = true;
    forced.answer(changed("a")).wait_for_deadline();
    assert_eq!(forced.answer(changed("a")).published(), ["a"]);
}

#[test]
fn a_fetch_follows_every_opening_of_a_watch() {
    let mut bench = bench(Strategy::Realtime);
    let watch = bench.answer(changed("a")).opening().expect("opens after the first answer");
    bench.step(Input::Armed(watch));
    assert_eq!(bench.fetch().expect("a fetch").1, None, "it asks for the value in any case");
    assert_eq!(bench.answer(changed("b")).published(), ["b"]);

    bench.step(Input::WatchLost(watch, broken())).wait_for_deadline();
    let again = bench.opening().expect("opened again");
    assert!(bench.step(Input::Armed(again)).fetch().is_some());
}

#[test]
fn a_watch_that_is_armed_during_a_fetch_means_one_more_fetch() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.answer(changed("a")).opening().expect("opens after the first answer");
    let (second, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    assert_eq!(bench.step(Input::Armed(watch)).fetch(), None);
    bench.step(Input::Fetched(second, changed("b")));
    assert_eq!(bench.published(), ["b"]);
    assert!(bench.fetch().is_some(), "what was read may be older than the watch");
}

#[test]
fn a_dirty_event_asks_without_the_cursor() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settled().expect("watching");
    bench.step(Input::Watched(watch, Event::Dirty));
    assert_eq!(bench.fetch().expect("a fetch").1, None);
}

#[test]
fn dirty_while_a_fetch_is_in_flight_means_one_more_fetch() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settled().expect("watching");
    bench.step(Input::Watched(watch, Event::Dirty));
    let (session, _) = bench.fetch().expect("in flight");
    assert_eq!(bench.step(Input::Watched(watch, Event::Dirty)).fetch(), None);
    bench.step(Input::Fetched(session, changed("b")));
    assert_eq!(bench.published(), ["b"]);
    assert_eq!(bench.answer(changed("c")).published(), ["c"]);
    assert_eq!(bench.fetch(), None);
}

#[test]
fn a_value_from_the_watch_is_not_undone_by_an_older_one_in_flight() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settled().expect("watching");
    bench.step(Input::ReloadNow);
    let (session, _) = bench.fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("new"))));
    assert_eq!(bench.published(), ["new"]);
    bench.step(Input::Fetched(session, changed("a")));
    assert_eq!(bench.published(), [""; 0]);
    assert_eq!(bench.fetch(), None, "it is taken for the older one");
    // Should the source have gone back to it, the watch says so, or else the next poll finds out.
    while bench.fetch().is_none() {
        let watched = Input::Watched(watch, Event::Alive);
        bench.wait_for_deadline();
        if bench.fetch().is_none() {
            bench.step(watched);
        }
    }
    assert_eq!(bench.fetch().expect("due").1, None, "whatever the cursor says");
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
}

#[test]
fn what_was_in_flight_and_agrees_with_the_watch_is_not_asked_for_again() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settled().expect("watching");
    let (session, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("new"))));
    bench.step(Input::Fetched(session, changed("new")));
    assert_eq!(bench.effects, []);
}

#[test]
fn what_was_in_flight_and_is_neither_the_old_value_nor_the_watchs_is_asked_for_again() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settled().expect("watching");
    let (session, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Changed(value("new"))));
    bench.step(Input::Fetched(session, changed("newer?")));
    assert_eq!(bench.published(), [""; 0]);
    assert_eq!(bench.answer(changed("newer")).published(), ["newer"]);
}

#[test]
fn a_late_answer_of_a_dropped_watch_is_thrown_away() {
    let mut bench = bench(Strategy::Realtime);
    let watch = bench.settled().expect("watching");
    bench.step(Input::WatchLost(watch, broken()));
    bench.step(Input::Watched(watch, Event::Changed(value("late"))));
    assert_eq!(bench.published(), [""; 0]);
    assert!(bench.step(Input::Armed(watch)).effects.is_empty());
}

#[test]
fn hybrid_polls_while_the_watch_is_down_and_realtime_does_not() {
    let mut hybrid = bench(Strategy::Hybrid);
    let watch = hybrid.settled().expect("watching");
    let far = hybrid.engine.fetch.next().expect("reconciling");
    assert!(far - hybrid.now > Duration::from_secs(20));
    hybrid.step(Input::WatchLost(watch, broken()));
    let near = hybrid.engine.fetch.next().expect("polling");
    assert!(near - hybrid.now < Duration::from_secs(11));

    let mut realtime = bench(Strategy::Realtime);
    let watch = realtime.settled().expect("watching");
    let far = realtime.engine.fetch.deadline();
    realtime.step(Input::WatchLost(watch, broken()));
    assert_eq!(realtime.engine.fetch.deadline(), far);
}

#[test]
fn a_silent_watch_is_opened_anew_and_the_source_read_meanwhile() {
    let mut bench = bench(Strategy::Realtime);
    bench.settled();
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
fn alive_keeps_a_watch_and_its_value_fresh() {
    let mut bench = bench(Strategy::Realtime);
    bench.engine.settings.reconcile = Duration::from_secs(100_000);
    let watch = bench.settled().expect("watching");
    for _ in 0..20 {
        bench.now += Duration::from_secs(50);
        bench.step(Input::Watched(watch, Event::Alive));
        assert_eq!(bench.effects, []);
    }
}

#[test]
fn pauses_grow_and_a_success_resets_them() {
    pauses_grow(Bugs::default());
}

fn pauses_grow(bugs: Bugs) {
    let mut bench = polling_with(bugs);
    bench.answer(changed("a"));
    let mut longest = Duration::ZERO;
    bench.wait_for_deadline();
    for _ in 0..40 {
        let failed_at = bench.now;
        bench.answer(Err(broken()));
        while bench.fetch().is_none() {
            bench.wait_for_deadline();
        }
        longest = longest.max(bench.now - failed_at);
    }
    assert!(longest > Duration::from_secs(5), "{longest:?}");
    assert!(longest <= Duration::from_secs(10), "{longest:?}");
    bench.answer(changed("b"));
    assert_eq!(bench.published(), ["b"]);
    bench.wait_for_deadline().answer(Err(broken()));
    let pause = bench.engine.fetch.next().expect("scheduled") - bench.now;
    assert!(pause <= Duration::from_millis(100), "{pause:?}");
}

#[test]
fn retry_after_is_obeyed() {
    retry_after_obeyed(Bugs::default());
}

fn retry_after_obeyed(bugs: Bugs) {
    let mut bench = polling_with(bugs);
    let kind = FailureKind::Transient { retry_after: Some(Duration::from_secs(77)) };
    bench.answer(Err(Failure::new(kind, "busy")));
    let wait = bench.engine.fetch.next().expect("scheduled") - bench.now;
    assert!(wait >= Duration::from_secs(77), "{wait:?}");
}

#[test]
fn a_failure_never_removes_a_value_but_makes_it_stale_and_a_success_fresh() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Err(broken()));
    let mut stale = 0;
    for _ in 0..60 {
        bench.wait(Duration::from_secs(1));
        stale += bench.effects.iter().filter(|e| matches!(e, Effect::Stale(_))).count();
        assert_eq!(bench.published(), [""; 0]);
        if bench.fetch().is_some() {
            bench.answer(Err(broken()));
        }
    }
    assert_eq!(stale, 1, "it is said once");
    while bench.fetch().is_none() {
        bench.wait_for_deadline();
    }
    bench.answer(changed("a"));
    assert_eq!(bench.effects, [Effect::Report(Report::Recovered), Effect::Fresh]);
}

#[test]
fn gone_is_believed_when_it_is_still_so_a_little_later() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settled().expect("watching");
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_millis(200)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), ["(removed)"]);
    bench.step(Input::Watched(watch, Event::Dirty)).answer(changed("a"));
    assert_eq!(bench.published(), ["a"], "the old value is news after it was gone");
}

#[test]
fn gone_and_back_within_the_settling_time_is_not_published() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settled().expect("watching");
    bench.step(Input::Watched(watch, Event::Removed));
    bench.step(Input::Watched(watch, Event::Changed(value("a"))));
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.published(), [""; 0]);
}

#[test]
fn gone_right_after_an_outage_is_doubted_for_longer() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Err(broken()));
    while bench.fetch().is_none() {
        bench.wait_for_deadline();
    }
    bench.answer(Ok(Outcome::Absent));
    assert!(bench.wait(Duration::from_secs(2)).fetch().is_none());
    bench.wait(Duration::from_secs(1)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), ["(removed)"]);
}

#[test]
fn empty_after_it_was_not_waits_for_confirmation() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(changed(""));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_millis(200));
    assert_eq!(bench.answer(changed("")).published(), [""]);
}

#[test]
fn sources_that_start_together_do_not_poll_together() {
    polls_spread(Bugs::default());
}

fn polls_spread(bugs: Bugs) {
    let start = Instant::now();
    let mut first_polls: Vec<_> = (0..100)
        .map(|seed| {
            let settings = Settings::new(Strategy::Polling, Duration::from_secs(10));
            let engine = Engine::with_bugs(settings, seed, start, bugs);
            let mut bench = started(engine, start);
            bench.answer(changed("a")).wait_for_deadline();
            (bench.now - start).as_millis()
        })
        .collect();
    first_polls.sort_unstable();
    first_polls.dedup();
    assert!(first_polls.len() > 90, "{first_polls:?}");
    assert!(first_polls[90] - first_polls[5] > 6_000, "they are spread over the interval");
}

#[test]
fn a_doubt_from_before_an_outage_does_not_count_after_it() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Ok(Outcome::Absent)).wait_for_deadline();
    bench.answer(Err(broken()));
    bench.wait(Duration::from_secs(10)).answer(Ok(Outcome::Absent));
    assert_eq!(bench.published(), [""; 0]);
    bench.wait(Duration::from_secs(1)).step(Input::ReloadNow).answer(changed("a"));
    assert_eq!(bench.published(), [""; 0]);
}

#[test]
fn that_there_is_no_value_yet_is_said_once() {
    let mut bench = bench(Strategy::Polling);
    let nothing = [Effect::Report(Report::NothingYet)];
    assert_eq!(bench.answer(Ok(Outcome::Absent)).effects, nothing);
    bench.wait_for_deadline();
    assert_eq!(bench.answer(Ok(Outcome::Absent)).effects, []);
    bench.wait_for_deadline();
    assert_eq!(bench.answer(changed("a")).published(), ["a"]);
}

#[test]
fn a_watch_that_ends_soon_after_it_began_is_opened_ever_more_rarely() {
    let mut bench = bench(Strategy::Realtime);
    let start = bench.now;
    bench.answer(changed("a"));
    let mut opened = 0;
    while bench.now < start + Duration::from_secs(60) {
        if let Some(watch) = bench.opening() {
            opened += 1;
            bench.step(Input::Armed(watch));
            bench.step(Input::Watched(watch, Event::Alive));
            bench.step(Input::WatchLost(watch, broken()));
        }
        bench.wait_for_deadline();
    }
    assert!(opened < 40, "{opened} times in a minute");
}

#[test]
fn alive_does_not_speak_for_a_value_while_a_change_is_announced_and_not_told() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settled().expect("watching");
    bench.step(Input::Watched(watch, Event::Dirty));
    let (session, _) = bench.fetch().expect("in flight");
    bench.confirmed = 0;
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmed, 0);
    bench.step(Input::Fetched(session, changed("a")));
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmed, 2);
    // A read that fails tells nothing, and what the watch tells is enough.
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Err(broken()));
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    bench.step(Input::Watched(watch, Event::Alive));
    assert_eq!(bench.confirmed, 4);
}

fn gone_after_an_outage() -> Bench {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Err(broken()));
    while bench.fetch().is_none() {
        bench.wait_for_deadline();
    }
    bench.answer(Ok(Outcome::Absent));
    bench
}

#[test]
fn that_there_is_nothing_after_an_outage_is_doubted_as_long_when_it_is_said_in_two_ways() {
    let mut bench = gone_after_an_outage();
    bench.step(Input::ReloadNow).answer(changed(""));
    bench.wait(Duration::from_secs(2)).step(Input::ReloadNow).answer(changed(""));
    assert_eq!(bench.published(), [""; 0]);
}

#[test]
fn gone_right_after_a_restart_is_doubted_for_longer() {
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
fn the_reason_for_being_stale_is_the_doubt_where_there_is_one() {
    let mut bench = gone_after_an_outage();
    bench.wait(Duration::from_secs(30));
    let why = bench.effects.iter().find_map(|effect| match effect {
        Effect::Stale(failure) => Some(failure.message.to_string()),
        _ => None,
    });
    assert_eq!(why.as_deref(), Some("the source says that there is nothing, which is doubted"));
}

#[test]
fn what_is_doubted_is_polled_as_often_as_ever() {
    let mut settings = Settings::new(Strategy::Polling, Duration::from_secs(1));
    settings.confirm = Duration::from_secs(10);
    let mut bench = bench_of(settings, 7);
    bench.answer(changed("a")).wait_for_deadline();
    bench.answer(Ok(Outcome::Absent));
    assert!(bench.wait(Duration::from_secs(2)).fetch().is_some());
}

#[test]
fn what_the_source_asks_for_is_obeyed_whatever_the_watch_sees() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settled().expect("watching");
    let kind = FailureKind::Transient { retry_after: Some(Duration::from_secs(77)) };
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Err(Failure::new(kind, "busy")));
    let busy_until = bench.now + Duration::from_secs(77);
    let obeyed = |bench: &Bench| bench.engine.next_fetch() >= Some(busy_until);
    bench.step(Input::Watched(watch, Event::Dirty));
    assert!(obeyed(&bench));
    bench.step(Input::Watched(watch, Event::Removed));
    assert!(obeyed(&bench), "a doubt is to be cleared up");
    bench.judge = |_| Err(broken());
    bench.step(Input::Watched(watch, Event::Changed(value("b"))));
    assert!(obeyed(&bench), "a refusal is to be tried again");
    bench.step(Input::WatchLost(watch, broken()));
    assert!(obeyed(&bench), "polling takes over");
    assert!(bench.step(Input::ReloadNow).fetch().is_some(), "but somebody insists");
}

#[test]
fn who_insists_has_a_refused_value_judged_again() {
    let mut bench = bench(Strategy::Polling);
    bench.judge = |_| Err(Failure::new(FailureKind::Permanent, "not fit"));
    assert_eq!(bench.answer(changed("a")).published(), [""; 0]);
    bench.judge = |_| Ok(());
    bench.wait_for_fetch().answer(changed("a"));
    assert_eq!(bench.published(), [""; 0], "not by itself");
    assert_eq!(bench.step(Input::ReloadNow).answer(changed("a")).published(), ["a"]);
}

#[test]
fn a_weak_cursor_does_not_hide_a_value_that_is_to_be_tried_again() {
    let written = |content: &str, when: &str| {
        let cursor = Some(Cursor::new(when));
        Ok(Outcome::Changed(Snapshot { cursor, ..value(content) }))
    };
    let mut bench = bench(Strategy::Polling);
    bench.engine.settings.stale_after = Duration::from_secs(3600);
    bench.answer(written("a", "this second"));
    bench.judge = |_| Err(Failure::new(FailureKind::Permanent, "not fit"));
    bench.step(Input::ReloadNow).answer(written("b", "this second"));
    assert_eq!(bench.wait_for_deadline().fetch().expect("due").1, None);
    // Nor where the refused value has come by that cursor later.
    bench.answer(written("b", "before"));
    assert!(bench.wait_for_deadline().fetch().expect("due").1.is_some());
    bench.answer(written("b", "this second"));
    assert_eq!(bench.wait_for_deadline().fetch().expect("due").1, None);
}

#[test]
fn gone_is_believed_only_by_a_read_that_was_asked_for_when_the_doubt_was_over() {
    let mut bench = bench(Strategy::Hybrid);
    let watch = bench.settled().expect("watching");
    // It is being written: what is read now says little, however late it arrives.
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Ok(Outcome::Absent));
    let (session, _) = bench.step(Input::Watched(watch, Event::Dirty)).fetch().expect("asked");
    bench.wait(Duration::from_secs(1)).step(Input::Fetched(session, Ok(Outcome::Absent)));
    assert_eq!(bench.published(), [""; 0]);
    let (session, _) = bench.fetch().expect("asked again, at once");
    // Nor does an event that was sent at any time before.
    bench.step(Input::Watched(watch, Event::Removed));
    assert_eq!(bench.published(), [""; 0]);
    bench.step(Input::Fetched(session, changed("a")));
    assert_eq!(bench.answer(changed("a")).published(), [""; 0]);
}
