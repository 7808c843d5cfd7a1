//! Delivery worker: coalescing, delivery record, retries, timeouts and order. The clock is paused.

use crate::harness::{
    Answer, MemoryLog, TestSource, scripted_sink, spawn_worker, spawn_worker_after,
    spawn_worker_with_log,
};
use reloader_delivery::{OnRemoved, Retry, SinkError, SinkState, WorkerSettings};
use std::time::Duration;
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

fn failure() -> Answer {
    Answer::Fail(SinkError::transient("the disk is full"))
}

#[tokio::test(start_paused = true)]
async fn value_is_delivered_immediately() {
    let app = TestSource::new("app");
    let (sink, mut script) = scripted_sink();
    let mut worker = spawn_worker(&[&app], sink, WorkerSettings::default());
    script.assert_idle(HOUR).await;
    assert_eq!(worker.status.borrow().state, SinkState::Waiting(vec![app.input().0]));
    let before = Instant::now();
    app.set("a");
    assert_eq!(script.next().await, "a");
    let status = worker.delivered(1).await;
    assert_eq!(before.elapsed(), Duration::ZERO, "no debounce for one source");
    assert_eq!((status.state, status.changes), (SinkState::Done, 1));
}

#[tokio::test(start_paused = true)]
async fn busy_sink_skips_intermediate_values() {
    let app = TestSource::with("app", "0");
    let (sink, mut script) = scripted_sink();
    script.answer(Answer::Hang);
    let mut worker = spawn_worker(&[&app], sink, WorkerSettings::default());
    assert_eq!(script.next().await, "0");
    for number in 1..1000 {
        app.set(&number.to_string());
    }
    script.answer(Answer::Deliver);
    assert_eq!(script.next().await, "999");
    worker.delivered(1000).await;
}

/// Prevents stakater/Reloader#1089: an unchanged value was rolled out again.
#[tokio::test(start_paused = true)]
async fn republished_value_is_not_delivered_again() {
    let app = TestSource::with("app", "a");
    let (sink, mut script) = scripted_sink();
    let mut worker = spawn_worker(&[&app], sink, WorkerSettings::default());
    assert_eq!(script.next().await, "a");
    app.set("a");
    assert_eq!(worker.delivered(2).await.changes, 1);
    app.set("b");
    assert_eq!(script.next().await, "b");
}

/// Prevents stakater/Reloader#1089: a restart missed changes, or rolled out everything.
#[tokio::test(start_paused = true)]
async fn restart_delivers_only_changed_values() {
    let log = MemoryLog::default();
    let app = TestSource::with("app", "a");
    let (sink, mut script) = scripted_sink();
    let mut worker = spawn_worker_with_log(&[&app], sink, WorkerSettings::default(), log.clone());
    assert_eq!(script.next().await, "a");
    worker.delivered(1).await;
    drop(worker);

    let (sink, mut script) = scripted_sink();
    let mut worker = spawn_worker_with_log(&[&app], sink, WorkerSettings::default(), log.clone());
    assert_eq!(worker.delivered(1).await.changes, 0, "already delivered");
    script.assert_idle(HOUR).await;
    drop(worker);

    app.set("b");
    let (sink, mut script) = scripted_sink();
    let _worker = spawn_worker_with_log(&[&app], sink, WorkerSettings::default(), log.clone());
    assert_eq!(script.next().await, "b");
}

#[tokio::test(start_paused = true)]
async fn changed_settings_cause_a_delivery() {
    let (log, app) = (MemoryLog::default(), TestSource::with("app", "a"));
    for fingerprint in ["one", "two"] {
        let (sink, mut script) = scripted_sink();
        let settings =
            WorkerSettings { fingerprint: fingerprint.into(), ..WorkerSettings::default() };
        let mut worker = spawn_worker_with_log(&[&app], sink, settings, log.clone());
        assert_eq!(script.next().await, "a");
        worker.delivered(1).await;
    }
}

/// After a crash during a delivery, the state of the target is unknown, so the previous value is delivered again.
#[tokio::test(start_paused = true)]
async fn crash_during_delivery_clears_the_record() {
    let (log, app) = (MemoryLog::default(), TestSource::with("app", "good"));
    let (sink, mut script) = scripted_sink();
    let mut worker = spawn_worker_with_log(&[&app], sink, WorkerSettings::default(), log.clone());
    worker.delivered(1).await;
    assert_eq!(script.next().await, "good");
    script.answer(Answer::Hang);
    app.set("other");
    assert_eq!(script.next().await, "other");
    drop(worker);
    app.set("good");
    let (sink, mut script) = scripted_sink();
    let _worker = spawn_worker_with_log(&[&app], sink, WorkerSettings::default(), log);
    assert_eq!(script.next().await, "good");
}

/// Prevents prometheus-operator#4708: after a failed delivery, the return to the previous value was not delivered.
#[tokio::test(start_paused = true)]
async fn previous_value_is_delivered_after_a_failure() {
    let app = TestSource::with("app", "good");
    let (sink, mut script) = scripted_sink();
    let mut worker = spawn_worker(&[&app], sink, WorkerSettings::default());
    assert_eq!(script.next().await, "good");
    worker.delivered(1).await;
    script.answer(failure());
    app.set("bad");
    assert_eq!(script.next().await, "bad");
    worker.failure().await;
    script.answer(Answer::Deliver);
    app.set("good");
    assert_eq!(script.next().await, "good");
    worker.delivered(3).await;
}

/// Prevents consul-template#2030: a failed command was not retried.
#[tokio::test(start_paused = true)]
async fn failure_is_retried_with_exponential_backoff() {
    let app = TestSource::with("app", "a");
    let (sink, mut script) = scripted_sink();
    script.answer(failure());
    let settings = WorkerSettings { retries: 5, ..WorkerSettings::default() };
    let mut worker = spawn_worker(&[&app], sink, settings);
    assert_eq!(script.next().await, "a");
    let mut before = Instant::now();
    for exponent in 0..5_u32 {
        assert_eq!(script.next().await, "a");
        let (delay, backoff) = (before.elapsed(), Duration::from_millis(200) * (1 << exponent));
        // The tokio timer has a resolution of one millisecond.
        let max_delay = backoff + Duration::from_millis(2);
        assert!(delay >= backoff / 2 && delay <= max_delay, "{delay:?} of {backoff:?}");
        before = Instant::now();
    }
    let status = worker.when(|status| status.state == SinkState::GivenUp).await;
    assert_eq!((status.attempts, status.failing.as_deref()), (6, Some("the disk is full")));
    assert_eq!((status.delivered, status.next_try), (None, None));
    script.assert_idle(24 * HOUR).await;
    // A new value is delivered, although the retries of the previous one are exhausted.
    script.answer(Answer::Deliver);
    app.set("b");
    assert_eq!(script.next().await, "b");
    let status = worker.delivered(2).await;
    assert_eq!((status.failing, status.attempts), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn retry_later_continues_after_retries() {
    let app = TestSource::with("app", "a");
    let (sink, mut script) = scripted_sink();
    script.answer(failure());
    let settings =
        WorkerSettings { retries: 0, retry_later: Some(HOUR), ..WorkerSettings::default() };
    let mut worker = spawn_worker(&[&app], sink, settings);
    assert_eq!(script.next().await, "a");
    script.assert_idle(HOUR / 3).await;
    script.answer(Answer::Deliver);
    assert_eq!(script.next().await, "a");
    worker.delivered(1).await;
}

#[tokio::test(start_paused = true)]
async fn sink_error_selects_retry_policy() {
    let app = TestSource::with("app", "a");
    let (sink, mut script) = scripted_sink();
    script.answer(Answer::Fail(SinkError::permanent("404")));
    let mut worker = spawn_worker(&[&app], sink, WorkerSettings::default());
    assert_eq!(script.next().await, "a");
    worker.when(|status| status.state == SinkState::GivenUp).await;
    script.assert_idle(24 * HOUR).await;

    let retry = Retry::After(Duration::from_secs(100));
    script.answer(Answer::Fail(SinkError { message: "429".into(), retry }));
    app.set("b");
    assert_eq!(script.next().await, "b");
    script.assert_idle(Duration::from_secs(99)).await;
    assert_eq!(script.next().await, "b");
}

#[tokio::test(start_paused = true)]
async fn newer_value_ends_the_backoff() {
    let app = TestSource::with("app", "bad");
    let (sink, mut script) = scripted_sink();
    let retry = Retry::After(HOUR);
    script.answer(Answer::Fail(SinkError { message: "busy".into(), retry }));
    let mut worker = spawn_worker(&[&app], sink, WorkerSettings::default());
    assert_eq!(script.next().await, "bad");
    worker.failure().await;
    script.answer(Answer::Deliver);
    let before = Instant::now();
    app.set("good");
    assert_eq!(script.next().await, "good");
    assert_eq!(before.elapsed(), Duration::ZERO);
    worker.delivered(2).await;
}

/// Prevents a bug of Thanos (thanos#6519): the host would wait forever for a reload that hangs.
#[tokio::test(start_paused = true)]
async fn hanging_delivery_times_out_and_is_retried() {
    let app = TestSource::with("app", "a");
    let (sink, mut script) = scripted_sink();
    script.answer(Answer::Hang);
    let settings = WorkerSettings { timeout: Duration::from_secs(7), ..WorkerSettings::default() };
    let mut worker = spawn_worker(&[&app], sink, settings);
    assert_eq!(script.next().await, "a");
    let before = Instant::now();
    assert_eq!(worker.failure().await, "timed out after 7s (`timeout`)");
    assert!(before.elapsed().as_secs() == 7);
    assert_eq!(script.next().await, "a", "retry");
}

/// Prevents vault#26283: a failed template restarted all other templates.
#[tokio::test(start_paused = true)]
async fn failing_and_hanging_sinks_block_no_other_sink() {
    let app = TestSource::with("app", "1");
    let all = [failure(), Answer::Hang, Answer::Deliver].map(|answer| {
        let (sink, script) = scripted_sink();
        script.answer(answer);
        (spawn_worker(&[&app], sink, WorkerSettings::default()), script)
    });
    let [_failing, _hanging, (mut good, mut script)] = all;
    for number in 1..100 {
        let before = Instant::now();
        assert_eq!(script.next().await, number.to_string());
        good.delivered(number).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        app.set(&(number + 1).to_string());
    }
}

/// A system must be able to start while a source is down.
#[tokio::test(start_paused = true)]
async fn stale_value_is_delivered() {
    let app = TestSource::with("app", "old");
    app.stale();
    let (sink, mut script) = scripted_sink();
    let _worker = spawn_worker(&[&app], sink, WorkerSettings::default());
    assert_eq!(script.next().await, "old");
    // Staleness alone causes no delivery.
    app.stale();
    script.assert_idle(HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn removal_is_delivered_only_with_clear() {
    for (on_removed, then) in [(OnRemoved::Keep, None), (OnRemoved::Clear, Some("(none)"))] {
        let app = TestSource::with("app", "a");
        let (sink, mut script) = scripted_sink();
        let settings = WorkerSettings { on_removed, ..WorkerSettings::default() };
        let _worker = spawn_worker(&[&app], sink, settings);
        assert_eq!(script.next().await, "a");
        app.remove();
        match then {
            Some(then) => assert_eq!(script.next().await, then),
            None => script.assert_idle(HOUR).await,
        }
        app.set("b");
        assert_eq!(script.next().await, "b");
    }
}

#[tokio::test(start_paused = true)]
async fn last_value_of_stopped_source_is_delivered() {
    let app = TestSource::with("app", "a");
    let (sink, mut script) = scripted_sink();
    let mut worker = spawn_worker(&[&app], sink, WorkerSettings::default());
    assert_eq!(script.next().await, "a");
    app.set("last");
    drop(app);
    assert_eq!(script.next().await, "last");
    let status = worker.when(|status| status.state == SinkState::Stopped).await;
    assert_eq!(status.delivered, Some(2.into()));
}

#[tokio::test(start_paused = true)]
async fn stopped_worker_completes_current_delivery() {
    let app = TestSource::with("app", "a");
    let (sink, mut script) = scripted_sink();
    script.answer(Answer::Hang);
    let mut worker = spawn_worker(&[&app], sink, WorkerSettings::default());
    assert_eq!(script.next().await, "a");
    worker.stopper.stop();
    app.set("b");
    script.answer(Answer::Deliver);
    let status = worker.when(|status| status.state == SinkState::Stopped).await;
    assert_eq!(status.delivered, Some(1.into()));
    assert_eq!(script.deliveries.recv().await, None, "the sink is dropped");
}

/// The failed attempt may have changed the target. The next delivery therefore counts as a change, although it finds
/// the target unchanged.
#[tokio::test(start_paused = true)]
async fn unchanged_target_after_failure_counts_as_change() {
    let app = TestSource::with("app", "a");
    let (sink, mut script) = scripted_sink();
    script.answer(failure());
    let mut worker = spawn_worker(&[&app], sink, WorkerSettings::default());
    assert_eq!(script.next().await, "a");
    worker.failure().await;
    script.answer(Answer::Same);
    assert_eq!(worker.delivered(1).await.changes, 1);
    app.set("b");
    assert_eq!(worker.delivered(2).await.changes, 1, "no change without a failure");
}

#[tokio::test(start_paused = true)]
async fn notifier_waits_for_file_sink() {
    let app = TestSource::with("app", "1");
    let (sink, mut writer) = scripted_sink();
    writer.answer(Answer::Hang);
    let mut writing = spawn_worker(&[&app], sink, WorkerSettings::default());
    let (sink, mut notifier_script) = scripted_sink();
    let mut notifier = spawn_worker_after(&app, sink, &writing);
    assert_eq!(writer.next().await, "1");
    notifier_script.assert_idle(Duration::from_secs(5)).await;
    app.set("2");
    writer.answer(failure());
    writing.failure().await;
    notifier_script.assert_idle(Duration::from_secs(5)).await;
    writer.answer(Answer::Deliver);
    assert_eq!(notifier_script.next().await, "2", "only the newest value, after the write");
    notifier.delivered(2).await;
    // With `on-removed = "keep"`, the notifier does not wait for a removal.
    app.remove();
    app.set("4");
    assert_eq!(notifier_script.next().await, "4");
}
