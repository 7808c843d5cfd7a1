//! Address policy: the addresses to which a granted name may resolve. The tests replace
//! `/etc/hosts`.

use e2e::{Nginx, TestHost};

#[test]
fn private_address_requires_allow_address() {
    let Some(nginx) = Nginx::start() else { return };
    nginx.put("app.txt", "a");
    let t = TestHost::new();
    let hosts = "127.0.0.1 localhost app.example mixed.example\n10.9.8.7 mixed.example\n";
    let once = |host: &str, flags: &[&str]| {
        let url = format!("url={}", nginx.url_at(host, "/app.txt"));
        let run = ["run", "--plugin", "http", "--once", "--format", "raw", "--set", &url];
        t.finish_with_hosts(hosts, &[&run[..], flags].concat())
    };
    let Some(refused) = once("app.example", &[]) else { return };
    assert_eq!(refused.status, Some(1), "{refused:?}");
    let expected = "the name resolves to 127.0.0.1, a loopback address; `--allow-address 127.0.0.1` \
                    would allow it";
    assert!(refused.stderr.contains(expected), "{refused:?}");
    assert!(nginx.requests().is_empty());
    for range in ["127.0.0.1", "127.0.0.0/8"] {
        let allowed = once("app.example", &["--allow-address", range]);
        assert!(allowed.is_some_and(|run| run.text() == "a"), "{range}");
    }
    assert!(once("localhost", &[]).is_some_and(|run| run.text() == "a"));

    let Some(mixed) = once("mixed.example", &["--allow-address", "127.0.0.1"]) else { return };
    assert_eq!(mixed.status, Some(1), "{mixed:?}");
    assert!(mixed.stderr.contains("resolves to 10.9.8.7, a private address"), "{mixed:?}");
    let flags = ["--allow-address", "127.0.0.1", "--allow-address", "private"];
    assert!(once("mixed.example", &flags).is_some_and(|run| run.text() == "a"));
}

#[test]
fn invalid_allow_address_is_rejected() {
    let t = TestHost::new();
    let run = t.finish(&["run", "--plugin", "http", "--allow-address", "intranet"]);
    assert_eq!(run.status, Some(2), "{run:?}");
    let expected = "`intranet` is not an address (10.0.0.7), a network (10.0.0.0/8) or `private`";
    assert!(run.stderr.contains(expected), "{run:?}");
}
