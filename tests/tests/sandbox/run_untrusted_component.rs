//! Loads an untrusted component in a host process and checks that the host rejects it.

use e2e::{Finished, TestHost, text_guest};
use std::{fs, time::Duration};

/// Maximum CPU time of a run with an invalid component: the limits are five seconds for the
/// compilation and for a call.
const MAX_CPU_TIME: Duration = Duration::from_secs(12);

/// Runs a plugin once. Asserts that the CPU time is bounded; [`TestHost::finish`] fails if the host
/// does not exit.
pub(crate) fn run_plugin(t: &TestHost, plugin: &str, more: &[&str]) -> Finished {
    let limits = ["--limit", "compile-time=5s", "--limit", "call-timeout=5s"];
    let run = t.finish(&[&["run", "--once", "--plugin", plugin], &limits[..], more].concat());
    assert!(run.cpu_time < MAX_CPU_TIME, "{plugin} {more:.40?}: {:?}", run.cpu_time);
    run
}

/// Asserts that the plugin was rejected with a one-line error that contains one of the texts.
pub(crate) fn assert_rejected(run: &Finished, expected: &[&str]) {
    let (status, error) = run.status_and_error();
    assert_eq!(status, Some(2), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.len() < 9_000, "{} bytes: {error}", error.len());
    assert!(
        expected.iter().any(|expected| error.contains(expected)),
        "{expected:?} is not in {error:?}"
    );
}

/// Returns the valid guest `minimal`, from which the tests derive hostile components.
pub(crate) fn minimal_component() -> Vec<u8> {
    fs::read(text_guest("minimal")).unwrap()
}
