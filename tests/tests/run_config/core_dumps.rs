//! Core dumps of the host: disabled by default, because its memory contains secrets.

use e2e::TestHost;
use std::{fs, os::unix::fs::MetadataExt};

/// The test detects disabled core dumps by the owner of the files in `/proc/PID`: the kernel then makes root their
/// owner. The host runs without privileges, and still compiles a plugin and reads a file.
#[cfg(target_os = "linux")]
#[test]
fn core_dumps_are_off_unless_enabled() {
    const ROOT: u32 = 0;
    let t = TestHost::new();
    t.write("app", "one");
    let run = ["run", "--plugin", "file", "--set", "path=app"];
    for (arguments, is_off) in
        [(&run[..], true), (&[&run[..], &["--enable-core-dumps"]].concat(), false)]
    {
        let mut host = t.run_unprivileged(arguments);
        host.wait_for_value("one");
        let owner = fs::metadata(format!("/proc/{}/fd", host.id())).unwrap().uid();
        assert_eq!(owner == ROOT, is_off, "owner {owner}, {arguments:?}: {}", host.stderr());
        t.replace("app", "two");
        host.wait_for_value("two");
        t.replace("app", "one");
        host.stop();
    }
}
