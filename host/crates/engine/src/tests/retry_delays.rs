//! Tests of the delay before a retry: exponential backoff and `retry-after`.

use super::harness::*;
use crate::{
    Input,
    types::{Event, Failure, FailureKind, Strategy},
};
use std::time::Duration;

#[test]
fn backoff_grows_until_success() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(changed("a"));
    let mut longest = Duration::ZERO;
    bench.wait_for_deadline();
    for _ in 0..40 {
        let failed_at = bench.now;
        bench.answer(Err(transient_failure())).wait_for_fetch();
        longest = longest.max(bench.now - failed_at);
    }
    assert!(longest > Duration::from_secs(5), "{longest:?}");
    assert!(longest <= Duration::from_secs(10), "{longest:?}");
    bench.answer(changed("b"));
    assert_eq!(bench.published(), ["b"]);
    bench.wait_for_deadline().answer(Err(transient_failure()));
    assert!(bench.next_fetch_in() <= Duration::from_millis(100), "{:?}", bench.next_fetch_in());
}

#[test]
fn failed_fetch_retried() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(Err(transient_failure()));
    assert!(bench.next_fetch_in() <= Duration::from_millis(100), "{:?}", bench.next_fetch_in());
    assert_eq!(bench.wait_for_fetch().answer(changed("a")).published(), ["a"]);
}

/// A source with a poll interval of 1 s is retried within 1 s after each transient failure.
#[test]
fn transient_retry_delay_within_poll_interval() {
    let mut settings = settings(Strategy::Polling);
    settings.interval = Duration::from_secs(1);
    let mut bench = bench_with_settings(settings);
    bench.answer(changed("a")).wait_for_fetch();
    for _ in 0..40 {
        bench.answer(Err(transient_failure()));
        assert!(bench.next_fetch_in() <= Duration::from_secs(1), "{:?}", bench.next_fetch_in());
        bench.wait_for_fetch();
    }
}

/// The first delay is 2.5 to 5 s. From the eleventh failure on, it is 2.5 to 5 min.
#[test]
fn permanent_failure_retried_slowly() {
    for kind in [FailureKind::Permanent, FailureKind::Denied, FailureKind::Config] {
        let mut bench = bench(Strategy::Polling);
        bench.answer(changed("a")).wait_for_fetch();
        let delays: Vec<_> = (0..20)
            .map(|_| {
                bench.answer(Err(Failure::new(kind, "no")));
                let delay = bench.next_fetch_in();
                bench.wait_for_fetch();
                delay.as_secs_f64()
            })
            .collect();
        assert!((2.5..=5.0).contains(&delays[0]), "{kind:?}: {delays:?}");
        assert!(delays[10..].iter().all(|delay| (150.0..=300.0).contains(delay)), "{delays:?}");
    }
}

#[test]
fn retry_after_honored() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(Err(busy(Duration::from_secs(77))));
    assert!(bench.next_fetch_in() >= Duration::from_secs(77), "{:?}", bench.next_fetch_in());
}

#[test]
fn retry_after_limited_to_an_hour() {
    let mut bench = bench(Strategy::Polling);
    bench.answer(Err(busy(24 * HOUR)));
    assert_eq!(bench.next_fetch_in(), HOUR);
}

/// Watch events do not shorten the `retry-after` period; an explicit reload ends it early.
#[test]
fn retry_after_outlasts_watch_events() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    bench.step(Input::Watched(watch, Event::Dirty)).answer(Err(busy(Duration::from_secs(77))));
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

/// After a change during the failed fetch, the retry skips the backoff and waits only for the
/// `retry-after`.
#[test]
fn retry_after_outlasts_dirty_event_during_fetch() {
    let (mut bench, watch) = watching_bench(Strategy::Hybrid);
    let (session, _) = bench.step(Input::ReloadNow).fetch().expect("in flight");
    bench.step(Input::Watched(watch, Event::Dirty));
    bench.step(Input::Fetched(session, Err(busy(Duration::from_secs(77)))));
    assert_eq!(bench.next_fetch_in(), Duration::from_secs(77));
}
