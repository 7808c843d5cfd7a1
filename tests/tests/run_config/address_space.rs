//! A host whose address space is limited (`ulimit -v`).

use e2e::{Running, TestHost, wait_until};
use std::fmt::Write as _;

/// Starts a host with this number of file sources, each with a file sink, in a limited address space.
fn run_sources(t: &TestHost, sources: usize, limit_kib: u32) -> Running {
    let mut config = String::new();
    for number in 0..sources {
        t.write(&format!("{number}.in"), number.to_string());
        let _ = writeln!(
            config,
            "[[source]]\nname = \"s{number}\"\nplugin = \"file\"\nconfig.path = \"{number}.in\"\n\
             [[source.sink]]\ntype = \"file\"\npath = \"{number}.out\"\n"
        );
    }
    t.write("reloader.toml", config);
    t.run_with_ulimit(&format!("-v {limit_kib}"), &["run", "--config", "reloader.toml"])
}

#[test]
fn fifty_sources_deliver_in_two_gigabytes() {
    let t = TestHost::new();
    let mut host = run_sources(&t, 50, 2_000_000);
    for number in 0..50 {
        t.wait_for_file(&format!("{number}.out"), &number.to_string());
    }
    // Changes each file: the memory suffices for the watches too.
    for number in 0..50 {
        t.replace(&format!("{number}.in"), "changed");
        t.wait_for_file(&format!("{number}.out"), "changed");
    }
    assert!(!host.stderr().contains("no memory"), "{}", host.stderr());
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// The address space is too small for all 200 sources. Sources that get no memory fail with an error that names the
/// limit. The host continues, and at least one other source is delivered.
#[test]
fn exhausted_address_space_is_named_and_other_sources_deliver() {
    const SOURCES: usize = 200;
    let t = TestHost::new();
    let mut host = run_sources(&t, SOURCES, 400_000);
    host.wait_for_log("the address space of this process is limited to 400000 KiB; hint: ");
    let is_delivered = |number| t.path(&format!("{number}.out")).exists();
    wait_until("a value is delivered", || (0..SOURCES).any(is_delivered));
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}
