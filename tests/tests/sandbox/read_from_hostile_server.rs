//! Runs the bundled plugins `http` and `kvs` against a hostile server and checks that the read fails.

use e2e::{TestHost, hostile::Server};
use std::{io, net::TcpStream, time::Duration};

/// Function by which a hostile server serves one connection.
pub(crate) type Serve = fn(&mut TcpStream) -> io::Result<()>;

/// Pause between two writes of a slow-drip response.
pub(crate) const DRIP_INTERVAL: Duration = Duration::from_millis(20);

/// Maximum resident memory of a host that reads from a hostile server, in MiB.
pub(crate) const MAX_PEAK_MIB: u64 = 250;

/// Runs the host once and asserts that it fails with a one-line error that contains one of the texts in
/// `expected`. The plugins time out after two seconds; [`TestHost::finish`] fails if the host does not exit.
pub(crate) fn assert_read_fails(plugin: &str, settings: &[&str], expected: &[&str]) {
    let t = TestHost::new();
    let mut arguments = vec!["run", "--once", "--log-level", "error", "--plugin", plugin];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let run = t.finish(&arguments);
    let (status, error) = run.status_and_error();
    assert_eq!(status, Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("error: source `"), "{error}");
    assert!(error.len() < 5_000, "{} bytes", error.len());
    assert!(
        expected.iter().any(|expected| error.contains(expected)),
        "{expected:?} is not in {error:?}"
    );
}

pub(crate) fn assert_http_fails(server: Server, expected: &[&str]) {
    let url = format!("url={}", server.url("/"));
    assert_read_fails("http", &[&url, "timeout=1", "deadline=2"], expected);
}

/// Asserts that reads of a key, a hash and a prefix from this server fail.
pub(crate) fn assert_kvs_fails(server: Server, expected: &[&str]) {
    let url = format!("url=redis://127.0.0.1:{}", server.port());
    for subject in ["key=app", "hash=app", "prefix=app"] {
        assert_read_fails("kvs", &[&url, subject, "timeout=1"], expected);
    }
}
