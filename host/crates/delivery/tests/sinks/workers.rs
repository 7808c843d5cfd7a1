//! A worker and its sink: what is newest, when, how often, and how that is seen. Time stands still here
//! unless somebody waits.

use crate::site::{Answer, Given, Kept, obedient, work, work_after, work_with};
use reloader_delivery::{OnRemoved, Retry, SinkError, SinkState, WorkerSettings};
use std::time::Duration;
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

fn broken() -> Answer {
    Answer::Fail(SinkError::passing("the disk is full"))
}

#[tokio::test(start_paused = true)]
async fn a_value_is_delivered_at_once() {
    let app = Given::new("app");
    let (sink, mut master) = obedient();
    let mut working = work(&[&app], sink, WorkerSettings::default());
    master.silent(HOUR).await;
    assert_eq!(working.status.borrow().state, SinkState::Waiting(vec![app.input().0]));
    let before = Instant::now();
    app.set("a");
    assert_eq!(master.next().await, "a");
    let status = working.has(1).await;
    assert_eq!(before.elapsed(), Duration::ZERO, "one source is not waited for");
    assert_eq!((status.state, status.changes), (SinkState::Done, 1));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_busy_gets_what_is_newest_then_and_nothing_in_between() {
    let app = Given::with("app", "0");
    let (sink, mut master) = obedient();
    master.say(Answer::Hang);
    let mut working = work(&[&app], sink, WorkerSettings::default());
    assert_eq!(master.next().await, "0");
    for number in 1..1000 {
        app.set(&number.to_string());
    }
    master.say(Answer::Deliver);
    assert_eq!(master.next().await, "999");
    working.has(1000).await;
}

/// stakater/Reloader#1089: what is the same is not rolled out again.
#[tokio::test(start_paused = true)]
async fn the_same_value_again_is_not_delivered_again() {
    let app = Given::with("app", "a");
    let (sink, mut master) = obedient();
    let mut working = work(&[&app], sink, WorkerSettings::default());
    assert_eq!(master.next().await, "a");
    app.set("a");
    assert_eq!(working.has(2).await.changes, 1);
    app.set("b");
    assert_eq!(master.next().await, "b");
}

/// stakater/Reloader#1089: a restart neither misses what has changed meanwhile, nor rolls out everything.
#[tokio::test(start_paused = true)]
async fn nor_after_a_restart_but_what_has_changed_meanwhile_is() {
    let kept = Kept::default();
    let app = Given::with("app", "a");
    let (sink, mut master) = obedient();
    let mut working = work_with(&[&app], sink, WorkerSettings::default(), kept.clone());
    assert_eq!(master.next().await, "a");
    working.has(1).await;
    drop(working);

    let (sink, mut master) = obedient();
    let mut working = work_with(&[&app], sink, WorkerSettings::default(), kept.clone());
    assert_eq!(working.has(1).await.changes, 0, "it is there");
    master.silent(HOUR).await;
    drop(working);

    app.set("b");
    let (sink, mut master) = obedient();
    let _working = work_with(&[&app], sink, WorkerSettings::default(), kept.clone());
    assert_eq!(master.next().await, "b");
}

#[tokio::test(start_paused = true)]
async fn with_other_settings_the_same_value_is_delivered_again() {
    let (kept, app) = (Kept::default(), Given::with("app", "a"));
    for fingerprint in ["one", "two"] {
        let (sink, mut master) = obedient();
        let settings =
            WorkerSettings { fingerprint: fingerprint.into(), ..WorkerSettings::default() };
        let mut working = work_with(&[&app], sink, settings, kept.clone());
        assert_eq!(master.next().await, "a");
        working.has(1).await;
    }
}

/// A crash in the middle of something else: nobody knows how far that has got.
#[tokio::test(start_paused = true)]
async fn a_value_that_comes_back_after_a_crash_is_delivered_again() {
    let (kept, app) = (Kept::default(), Given::with("app", "good"));
    let (sink, mut master) = obedient();
    let mut working = work_with(&[&app], sink, WorkerSettings::default(), kept.clone());
    working.has(1).await;
    assert_eq!(master.next().await, "good");
    master.say(Answer::Hang);
    app.set("other");
    assert_eq!(master.next().await, "other");
    drop(working);
    app.set("good");
    let (sink, mut master) = obedient();
    let _working = work_with(&[&app], sink, WorkerSettings::default(), kept);
    assert_eq!(master.next().await, "good");
}

/// prometheus-operator#4708: after a bad value, the good one from before was taken for applied.
#[tokio::test(start_paused = true)]
async fn the_value_before_a_failure_is_delivered_again() {
    let app = Given::with("app", "good");
    let (sink, mut master) = obedient();
    let mut working = work(&[&app], sink, WorkerSettings::default());
    assert_eq!(master.next().await, "good");
    working.has(1).await;
    master.say(broken());
    app.set("bad");
    assert_eq!(master.next().await, "bad");
    working.failure().await;
    master.say(Answer::Deliver);
    app.set("good");
    assert_eq!(master.next().await, "good");
    working.has(3).await;
}

/// consul-template#2030: a command that fails is retried, with pauses that grow, and not for ever.
#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_with_growing_pauses_and_an_end() {
    let app = Given::with("app", "a");
    let (sink, mut master) = obedient();
    master.say(broken());
    let settings = WorkerSettings { retries: 5, ..WorkerSettings::default() };
    let mut working = work(&[&app], sink, settings);
    assert_eq!(master.next().await, "a");
    let mut before = Instant::now();
    for exponent in 0..5_u32 {
        assert_eq!(master.next().await, "a");
        let (pause, whole) = (before.elapsed(), Duration::from_millis(200) * (1 << exponent));
        // tokio counts in milliseconds.
        let most = whole + Duration::from_millis(2);
        assert!(pause >= whole / 2 && pause <= most, "{pause:?} of {whole:?}");
        before = Instant::now();
    }
    let status = working.when(|status| status.state == SinkState::GivenUp).await;
    assert_eq!((status.attempts, status.failing.as_deref()), (6, Some("the disk is full")));
    assert_eq!((status.delivered, status.next_try), (None, None));
    master.silent(24 * HOUR).await;
    // The next value is a new beginning.
    master.say(Answer::Deliver);
    app.set("b");
    assert_eq!(master.next().await, "b");
    let status = working.has(2).await;
    assert_eq!((status.failing, status.attempts), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_effects_is_tried_again_later_too() {
    let app = Given::with("app", "a");
    let (sink, mut master) = obedient();
    master.say(broken());
    let settings =
        WorkerSettings { retries: 0, retry_later: Some(HOUR), ..WorkerSettings::default() };
    let mut working = work(&[&app], sink, settings);
    assert_eq!(master.next().await, "a");
    master.silent(HOUR / 3).await;
    master.say(Answer::Deliver);
    assert_eq!(master.next().await, "a");
    working.has(1).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_not_tried_again_and_what_asks_for_time_gets_it() {
    let app = Given::with("app", "a");
    let (sink, mut master) = obedient();
    master.say(Answer::Fail(SinkError::lasting("404")));
    let mut working = work(&[&app], sink, WorkerSettings::default());
    assert_eq!(master.next().await, "a");
    working.when(|status| status.state == SinkState::GivenUp).await;
    master.silent(24 * HOUR).await;

    let retry = Retry::After(Duration::from_secs(100));
    master.say(Answer::Fail(SinkError { message: "429".into(), retry }));
    app.set("b");
    assert_eq!(master.next().await, "b");
    master.silent(Duration::from_secs(99)).await;
    assert_eq!(master.next().await, "b");
}

#[tokio::test(start_paused = true)]
async fn a_newer_value_does_not_wait_for_the_next_try_of_one_that_fails() {
    let app = Given::with("app", "bad");
    let (sink, mut master) = obedient();
    let retry = Retry::After(HOUR);
    master.say(Answer::Fail(SinkError { message: "busy".into(), retry }));
    let mut working = work(&[&app], sink, WorkerSettings::default());
    assert_eq!(master.next().await, "bad");
    working.failure().await;
    master.say(Answer::Deliver);
    let before = Instant::now();
    app.set("good");
    assert_eq!(master.next().await, "good");
    assert_eq!(before.elapsed(), Duration::ZERO);
    working.has(2).await;
}

/// thanos#6519: a reload that never came back was waited for.
#[tokio::test(start_paused = true)]
async fn a_sink_that_does_not_come_back_is_given_up_at_its_deadline() {
    let app = Given::with("app", "a");
    let (sink, mut master) = obedient();
    master.say(Answer::Hang);
    let settings = WorkerSettings { timeout: Duration::from_secs(7), ..WorkerSettings::default() };
    let mut working = work(&[&app], sink, settings);
    assert_eq!(master.next().await, "a");
    let before = Instant::now();
    assert_eq!(working.failure().await, "it took longer than 7s, and was given up (`timeout`)");
    assert!(before.elapsed().as_secs() == 7);
    assert_eq!(master.next().await, "a", "and tried again");
}

/// vault#26283: one template that failed restarted all others.
#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_or_hangs_holds_up_no_other() {
    let app = Given::with("app", "1");
    let all = [broken(), Answer::Hang, Answer::Deliver].map(|answer| {
        let (sink, master) = obedient();
        master.say(answer);
        (work(&[&app], sink, WorkerSettings::default()), master)
    });
    let [_failing, _hanging, (mut good, mut master)] = all;
    for number in 1..100 {
        let before = Instant::now();
        assert_eq!(master.next().await, number.to_string());
        good.has(number).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        app.set(&(number + 1).to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_delivered_since_a_machine_has_to_start() {
    let app = Given::with("app", "old");
    app.stale();
    let (sink, mut master) = obedient();
    let _working = work(&[&app], sink, WorkerSettings::default());
    assert_eq!(master.next().await, "old");
    // That it has become so is nothing new to deliver.
    app.stale();
    master.silent(HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_gone_stays_where_it_was_delivered_unless_it_is_to_be_cleared() {
    for (on_removed, then) in [(OnRemoved::Keep, None), (OnRemoved::Clear, Some("(none)"))] {
        let app = Given::with("app", "a");
        let (sink, mut master) = obedient();
        let settings = WorkerSettings { on_removed, ..WorkerSettings::default() };
        let _working = work(&[&app], sink, settings);
        assert_eq!(master.next().await, "a");
        app.remove();
        match then {
            Some(then) => assert_eq!(master.next().await, then),
            None => master.silent(HOUR).await,
        }
        app.set("b");
        assert_eq!(master.next().await, "b");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_value_of_a_source_that_is_stopped_is_still_delivered() {
    let app = Given::with("app", "a");
    let (sink, mut master) = obedient();
    let mut working = work(&[&app], sink, WorkerSettings::default());
    assert_eq!(master.next().await, "a");
    app.set("last");
    drop(app);
    assert_eq!(master.next().await, "last");
    let status = working.when(|status| status.state == SinkState::Stopped).await;
    assert_eq!(status.delivered, Some(2.into()));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stopped_ends_what_it_is_at_and_nothing_else() {
    let app = Given::with("app", "a");
    let (sink, mut master) = obedient();
    master.say(Answer::Hang);
    let mut working = work(&[&app], sink, WorkerSettings::default());
    assert_eq!(master.next().await, "a");
    working.stopper.stop();
    app.set("b");
    master.say(Answer::Deliver);
    let status = working.when(|status| status.state == SinkState::Stopped).await;
    assert_eq!(status.delivered, Some(1.into()));
    assert_eq!(master.told.recv().await, None, "the sink has been let go of");
}

#[tokio::test(start_paused = true)]
async fn what_a_try_that_was_given_up_has_done_all_the_same_is_a_change() {
    let app = Given::with("app", "a");
    let (sink, mut master) = obedient();
    master.say(broken());
    let mut working = work(&[&app], sink, WorkerSettings::default());
    assert_eq!(master.next().await, "a");
    working.failure().await;
    master.say(Answer::Same);
    assert_eq!(working.has(1).await.changes, 1);
    app.set("b");
    assert_eq!(working.has(2).await.changes, 1, "and what is really the same is none");
}

#[tokio::test(start_paused = true)]
async fn who_tells_of_files_does_so_when_they_are_written() {
    let app = Given::with("app", "1");
    let (sink, mut writer) = obedient();
    writer.say(Answer::Hang);
    let mut writing = work(&[&app], sink, WorkerSettings::default());
    let (sink, mut teller) = obedient();
    let mut telling = work_after(&app, sink, &writing);
    assert_eq!(writer.next().await, "1");
    teller.silent(Duration::from_secs(5)).await;
    app.set("2");
    writer.say(broken());
    writing.failure().await;
    teller.silent(Duration::from_secs(5)).await;
    writer.say(Answer::Deliver);
    assert_eq!(teller.next().await, "2", "the newest only, once it is written");
    telling.has(2).await;
    // That there is none any more is no matter to who keeps what was.
    app.remove();
    app.set("4");
    assert_eq!(teller.next().await, "4");
}
