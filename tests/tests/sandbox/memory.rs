//! Ways to take memory: one's own, and the host's.

use crate::{deed, fails, said, text};
use e2e::{TestHost, hostile};

#[test]
fn memory_and_tables_end() {
    let t = TestHost::new();
    // The allocator of Rust is given none, and that is the end of the plugin.
    fails(&deed(&t, "grow", &[]), "(in `reload`)");
    fails(&text(&t, "table-grow", &[]), "(in `reload`)");
    fails(&text(&t, "wide", &[]), "(in `open`)");
    fails(&text(&t, "wide-table", &[]), "(in `open`)");
    fails(&text(&t, "data", &[]), "(in `open`)");
}

#[test]
fn what_is_handed_to_the_host_is_bounded() {
    let t = TestHost::new();
    for deed_ in ["huge", "huge-cursor", "huge-media-type"] {
        fails(&deed(&t, deed_, &[]), "16777216");
    }
    for guest in ["huge-list", "many-fields"] {
        fails(&text(&t, guest, &[]), "(in `reload`)");
    }
    let value = deed(&t, "full", &[]);
    assert_eq!(value.status, Some(0), "{}", value.stderr);
}

#[test]
fn what_is_shown_of_it_is_bounded() {
    let t = TestHost::new();
    for deed_ in ["huge-failure", "panic-hugely", "huge-path"] {
        let run = deed(&t, deed_, &[]);
        fails(&run, "xxx");
        assert!(run.stderr.len() < 10_000, "{deed_}: {} bytes", run.stderr.len());
    }
    let address = "address=http://127.0.0.1:9/";
    let run = deed(&t, "huge-request", &[address, "to=http://127.0.0.1:9/"]);
    fails(&run, "cannot be requested");
}

#[test]
fn handles_end() {
    let t = TestHost::new();
    t.write("value", "x");
    fails(&deed(&t, "pollables", &[]), "1024");
    fails(&deed(&t, "watches", &["granted=value", "to=value"]), "1024");
    let server = hostile::tcp(hostile::hold);
    let to = format!("to=127.0.0.1:{}", server.port());
    let address = format!("address=tcp://127.0.0.1:{}", server.port());
    fails(&deed(&t, "connections", &[&address, &to]), "1024");
    // Not one: each would be a descriptor of the host's.
    let sockets = said(&deed(&t, "sockets", &[]));
    assert!(sockets.starts_with("0: ") && sockets.contains("access-denied"), "{sockets}");
}

#[test]
fn random_bytes_and_headers_end() {
    let t = TestHost::new();
    fails(&deed(&t, "random", &[]), "65536");
    fails(&deed(&t, "headers", &[]), "fields");
}

#[test]
fn a_plugin_without_bounds_is_one_that_does_not_begin() {
    let t = TestHost::new();
    fails(&text(&t, "start-trap", &[]), "(in `open`)");
    fails(&text(&t, "realloc-wild", &[]), "(in `open`)");
}
