//! Sinks with several sources, and debounce of bursts of changes. The clock is paused.

use crate::harness::{TestSource, scripted_sink, spawn_worker};
use reloader_delivery::{SinkState, WaitSettings, WorkerSettings};
use reloader_util::units::Time;
use std::time::Duration;
use tokio::time::{Instant, sleep};

fn wait(min: u64, max: u64) -> WorkerSettings {
    let time = |ms| Time(Duration::from_millis(ms));
    let wait = Some(WaitSettings { min: time(min), max: time(max) });
    WorkerSettings { wait, ..WorkerSettings::default() }
}

/// Prevents consul-template#1006: a command ran once per file instead of once for all files.
#[tokio::test(start_paused = true)]
async fn first_delivery_waits_for_all_sources() {
    let all = ["a", "b", "c"].map(TestSource::new);
    let (sink, mut script) = scripted_sink();
    let mut worker = spawn_worker(&[&all[0], &all[1], &all[2]], sink, WorkerSettings::default());
    all[0].set("a1");
    all[2].set("c1");
    script.assert_idle(Duration::from_secs(3600)).await;
    let missing = vec![all[1].input().0];
    assert_eq!(worker.status.borrow().state, SinkState::Waiting(missing));
    all[1].set("b1");
    assert_eq!(script.next().await, "a1+b1+c1");
    let status = worker.delivered(1).await;
    let revisions: Vec<_> = status.revisions.iter().map(|(_, revision)| revision.get()).collect();
    assert_eq!(revisions, [1, 1, 1]);
    script.assert_idle(Duration::from_secs(3600)).await;
}

/// Prevents consul-template#1006 for changes after the first delivery: a command ran once per file.
#[tokio::test(start_paused = true)]
async fn burst_causes_one_delivery() {
    let (a, b) = (TestSource::with("a", "0"), TestSource::with("b", "0"));
    let (sink, mut script) = scripted_sink();
    let _worker = spawn_worker(&[&a, &b], sink, wait(100, 10_000));
    assert_eq!(script.next().await, "0+0");
    for number in 1..=20 {
        a.set(&number.to_string());
        b.set(&number.to_string());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(script.next().await, "20+20");
    script.assert_idle(Duration::from_secs(3600)).await;
}

/// Prevents a defect of `hot_reload`: its debounce never ended while a file was written every 50 ms.
#[tokio::test(start_paused = true)]
async fn endless_burst_is_delivered_after_max_wait() {
    let (a, b) = (TestSource::with("a", "0"), TestSource::with("b", "0"));
    let (sink, mut script) = scripted_sink();
    let _worker = spawn_worker(&[&a, &b], sink, wait(100, 1000));
    assert_eq!(script.next().await, "0+0");
    let changes = async {
        for number in 1_u64.. {
            a.set(&number.to_string());
            sleep(Duration::from_millis(50)).await;
        }
    };
    let deliveries = async {
        let mut before = Instant::now();
        for _ in 0..10 {
            script.next().await;
            assert!(before.elapsed() <= Duration::from_millis(1100), "{:?}", before.elapsed());
            before = Instant::now();
        }
    };
    tokio::select! { () = changes => {}, () = deliveries => {} }
}

#[tokio::test(start_paused = true)]
async fn debounce_applies_to_single_source() {
    let a = TestSource::with("a", "0");
    let (sink, mut script) = scripted_sink();
    let _worker = spawn_worker(&[&a], sink, wait(100, 1000));
    for number in 1..5 {
        sleep(Duration::from_millis(50)).await;
        a.set(&number.to_string());
    }
    assert_eq!(script.next().await, "4");
}

#[tokio::test(start_paused = true)]
async fn stopped_source_does_not_stop_the_worker() {
    let (a, b) = (TestSource::with("a", "0"), TestSource::with("b", "0"));
    let (sink, mut script) = scripted_sink();
    let mut worker = spawn_worker(&[&a, &b], sink, WorkerSettings::default());
    assert_eq!(script.next().await, "0+0");
    drop(a);
    b.set("1");
    assert_eq!(script.next().await, "0+1");
    drop(b);
    worker.when(|status| status.state == SinkState::Stopped).await;
}
