//! Crash consistency: the host is killed at varying times while values change. No file is torn, no
//! revision decreases, and the last value is delivered to all sinks.

use crate::config_text_helpers::source;
use e2e::{Running, TestHost, wait_until};
use std::{
    env, fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

/// Returns the number of crashes: 20, or the value of the environment variable `CRASHES`.
fn crashes() -> u32 {
    env::var("CRASHES").ok().and_then(|number| number.parse().ok()).unwrap_or(20)
}

/// Returns a value that is large enough for a torn write to be visible.
fn value(number: u64) -> String {
    format!("{number} {}\n", number.to_string().repeat(4000))
}

fn number(text: &str) -> Option<u64> {
    let (number, _) = text.split_once(' ')?;
    let number = number.parse().ok()?;
    (text == value(number)).then_some(number)
}

const SOURCES: [&str; 3] = ["a", "b", "c"];

#[test]
fn crash_tears_no_file_and_loses_no_value() {
    let t = TestHost::new();
    let sinks = |name: &str| {
        format!(
            "[[source.sink]]\ntype = \"file\"\npath = \"{name}.out\"\n\
             [[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \
             \"echo $RELOADER_REVISION >> {name}.revisions\"]\n"
        )
    };
    let config: String = SOURCES.iter().map(|name| source(name, &sinks(name))).collect();
    t.write("reloader.toml", format!("[state]\npath = \"state\"\n{config}"));
    let (written, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let number = written.fetch_add(1, Ordering::Relaxed) + 1;
                for name in SOURCES {
                    t.replace(&format!("{name}.in"), value(number));
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        let mut seen = [0; SOURCES.len()];
        for crash in 0..crashes() {
            let mut host: Running = t.run(&["run", "--config", "reloader.toml"]);
            // Vary the time of the crash; some crashes happen during startup.
            let instant = Duration::from_micros(u64::from(crash) * 7_919 % 300_000);
            thread::sleep(instant);
            host.kill();
            for (name, seen) in SOURCES.iter().zip(&mut seen) {
                let Ok(text) = fs::read_to_string(t.path(&format!("{name}.out"))) else { continue };
                let Some(now) = number(&text) else { panic!("torn file: {} bytes", text.len()) };
                assert!(now >= *seen, "{now} after {seen}");
                *seen = now;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let last = value(written.load(Ordering::Relaxed));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    for name in SOURCES {
        let (out, revisions) =
            (t.path(&format!("{name}.out")), t.path(&format!("{name}.revisions")));
        wait_until("the last value is delivered", || {
            fs::read_to_string(&out).is_ok_and(|text| text == last)
        });
        let revisions_run = || {
            let text = fs::read_to_string(&revisions).unwrap_or_default();
            text.lines().filter_map(|line| line.parse::<u64>().ok()).collect::<Vec<_>>()
        };
        let history = t.finish(&["history", name, "--json"]);
        let history: serde_json::Value = serde_json::from_slice(&history.stdout).unwrap();
        let newest = history[0]["revision"].as_u64();
        wait_until("the command to run for the newest revision", || {
            revisions_run().last().copied() == newest
        });
        let revisions_run = revisions_run();
        assert!(revisions_run.is_sorted(), "a revision has decreased: {revisions_run:?}");
    }
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}
