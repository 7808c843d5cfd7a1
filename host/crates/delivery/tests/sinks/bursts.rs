//! Sinks of several sources, and bursts of changes. Time stands still here unless somebody waits.

use crate::site::{Given, obedient, work};
use reloader_delivery::{SinkState, WaitSettings, WorkerSettings};
use reloader_util::units::Time;
use std::time::Duration;
use tokio::time::{Instant, sleep};

fn wait(min: u64, max: u64) -> WorkerSettings {
    let time = |ms| Time(Duration::from_millis(ms));
    let wait = Some(WaitSettings { min: time(min), max: time(max) });
    WorkerSettings { wait, ..WorkerSettings::default() }
}

/// consul-template#1006: one command after several files, not one for each.
#[tokio::test(start_paused = true)]
async fn what_needs_several_sources_runs_once_when_all_are_there() {
    let all = ["a", "b", "c"].map(Given::new);
    let (sink, mut master) = obedient();
    let mut working = work(&[&all[0], &all[1], &all[2]], sink, WorkerSettings::default());
    all[0].set("a1");
    all[2].set("c1");
    master.silent(Duration::from_secs(3600)).await;
    let missing = vec![all[1].input().0];
    assert_eq!(working.status.borrow().state, SinkState::Waiting(missing));
    all[1].set("b1");
    assert_eq!(master.next().await, "a1+b1+c1");
    let status = working.has(1).await;
    let revisions: Vec<_> = status.revisions.iter().map(|(_, revision)| revision.get()).collect();
    assert_eq!(revisions, [1, 1, 1]);
    master.silent(Duration::from_secs(3600)).await;
}

/// consul-template#1006: and once after each burst.
#[tokio::test(start_paused = true)]
async fn and_once_again_after_a_burst() {
    let (a, b) = (Given::with("a", "0"), Given::with("b", "0"));
    let (sink, mut master) = obedient();
    let _working = work(&[&a, &b], sink, wait(100, 10_000));
    assert_eq!(master.next().await, "0+0");
    for number in 1..=20 {
        a.set(&number.to_string());
        b.set(&number.to_string());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(master.next().await, "20+20");
    master.silent(Duration::from_secs(3600)).await;
}

/// The debounce of `hot_reload`: with a write every 50 ms, nothing ever came.
#[tokio::test(start_paused = true)]
async fn who_never_pauses_is_waited_for_only_so_long() {
    let (a, b) = (Given::with("a", "0"), Given::with("b", "0"));
    let (sink, mut master) = obedient();
    let _working = work(&[&a, &b], sink, wait(100, 1000));
    assert_eq!(master.next().await, "0+0");
    let restless = async {
        for number in 1_u64.. {
            a.set(&number.to_string());
            sleep(Duration::from_millis(50)).await;
        }
    };
    let watch = async {
        let mut before = Instant::now();
        for _ in 0..10 {
            master.next().await;
            assert!(before.elapsed() <= Duration::from_millis(1100), "{:?}", before.elapsed());
            before = Instant::now();
        }
    };
    tokio::select! { () = restless => {}, () = watch => {} }
}

#[tokio::test(start_paused = true)]
async fn a_single_source_can_be_waited_for_too() {
    let a = Given::with("a", "0");
    let (sink, mut master) = obedient();
    let _working = work(&[&a], sink, wait(100, 1000));
    for number in 1..5 {
        sleep(Duration::from_millis(50)).await;
        a.set(&number.to_string());
    }
    assert_eq!(master.next().await, "4");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_stopped_does_not_end_what_others_have_to_say() {
    let (a, b) = (Given::with("a", "0"), Given::with("b", "0"));
    let (sink, mut master) = obedient();
    let mut working = work(&[&a, &b], sink, WorkerSettings::default());
    assert_eq!(master.next().await, "0+0");
    drop(a);
    b.set("1");
    assert_eq!(master.next().await, "0+1");
    drop(b);
    working.when(|status| status.state == SinkState::Stopped).await;
}
