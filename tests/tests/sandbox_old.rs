//! What a plugin does not get: a guest that tries, and the exact outcome.

use e2e::{Finished, Nginx, Redis, TestHost, guest};
use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

/// Lets the guest do something once.
fn deed(t: &TestHost, deed: &str, to: &str) -> Finished {
    let plugin = guest("restless").display().to_string();
    let (deed, to) = (format!("deed={deed}"), format!("to={to}"));
    t.finish(&["run", "--plugin", &plugin, "--once", "--set", &deed, "--set", &to])
}

#[test]
fn a_panic_arrives_with_its_message_and_place() {
    let t = TestHost::new();
    let run = deed(&t, "panic", "");
    assert_eq!(run.status, Some(1));
    let expected =
        "error: source `restless`: the plugin panicked: that was to be expected at src/lib.rs:";
    let found = run.stderr.replace("restless/src/lib.rs", "src/lib.rs");
    assert!(found.starts_with(expected), "{found}");
    assert_eq!(found.trim_end().lines().count(), 1, "{found}");
}

#[test]
fn events_arrive_with_their_fields_and_stay_on_their_line() {
    let t = TestHost::new();
    let run = deed(&t, "log", "me");
    assert_eq!(run.status, Some(0));
    let line = run.stderr.trim_end();
    assert_eq!(line.lines().count(), 1, "{line}");
    for expected in ["WARN", r"something to say\n\u{1b}[31m answer=42 who=me", "source=restless"] {
        assert!(line.contains(expected), "{expected}: {line}");
    }
}

#[test]
fn a_flood_of_events_is_dammed() {
    let t = TestHost::new();
    let run = deed(&t, "flood", "");
    assert_eq!(run.status, Some(0));
    let lines = run.stderr.lines().count();
    assert!(lines < 2_000, "{lines} lines");
}

#[test]
fn a_file_that_no_setting_names_cannot_be_read() {
    let t = TestHost::new();
    t.write("secret", "s3cr3t");
    t.write("granted", "fine");
    let secret = t.path("secret").display().to_string();
    for path in ["secret", secret.as_str(), "granted/../secret", "/etc/passwd"] {
        let run = deed(&t, "read", path);
        assert_eq!(run.status, Some(1), "{path}");
        assert!(run.stderr.contains("is not granted"), "{}", run.stderr);
        let run = deed(&t, "open", path);
        assert_eq!(run.status, Some(1), "{path}");
        assert!(run.stdout.is_empty());
    }
    let plugin = guest("restless").display().to_string();
    let granted = ["run", "--plugin", &plugin, "--once", "--format", "raw", "--set", "deed=read"];
    let run =
        t.finish(&[&granted[..], &["--set", "to=granted", "--set", "granted=granted"]].concat());
    assert_eq!(run.text(), "fine");
}

#[test]
fn an_address_that_no_setting_names_cannot_be_reached() {
    let t = TestHost::new();
    let Some(redis) = Redis::start() else { return };
    let address = format!("127.0.0.1:{}", redis.port());
    let run = deed(&t, "connect", &address);
    assert_eq!(run.status, Some(1));
    let expected = format!("connecting to `{address}` is not granted");
    assert!(run.stderr.contains(&expected), "{}", run.stderr);
    let run = deed(&t, "socket", &address);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
}

#[test]
fn an_origin_that_no_setting_names_cannot_be_requested() {
    let t = TestHost::new();
    let Some(nginx) = Nginx::start() else { return };
    nginx.put("app.txt", "a");
    let run = deed(&t, "request", &nginx.url("/app.txt"));
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("is not granted to this plugin"), "{}", run.stderr);
    assert!(nginx.requests().is_empty());
}

#[test]
fn there_is_no_environment() {
    let t = TestHost::new();
    let run = deed(&t, "environment", "");
    assert!(run.text().contains(r#""content":"0 0""#), "{}", run.text());
}

#[test]
fn computing_and_memory_end() {
    let t = TestHost::new();
    let run = deed(&t, "spin", "");
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("computed for more than 2s in one call"), "{}", run.stderr);
    let run = deed(&t, "grow", "");
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("(in `reload`)"), "{}", run.stderr);
    let run = deed(&t, "huge", "");
    assert_eq!(run.status, Some(1));
    assert!(run.stdout.is_empty());
}

#[test]
fn a_default_of_the_plugins_own_grants_nothing() {
    let t = TestHost::new();
    t.write("secret", "s3cr3t");
    assert_eq!(t.finish(&["plugins", "export", "file", "-o", "file.wasm"]).status, Some(0));
    // The SDK refuses to build such a plugin; a stranger need not use the SDK.
    let swap = |bytes: Vec<u8>, old: &str, new: &str| -> Vec<u8> {
        let new = format!("{new}{}", " ".repeat(old.len() - new.len()));
        let mut bytes = bytes;
        let places: Vec<usize> = (0..bytes.len() - old.len())
            .filter(|&at| bytes[at..].starts_with(old.as_bytes()))
            .collect();
        assert!(!places.is_empty(), "{old}");
        for at in places {
            bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
        }
        bytes
    };
    let bytes = std::fs::read(t.path("file.wasm")).unwrap();
    let help = r#""description":"The file. It may be a symbolic link, and it may not exist yet.","#;
    let bytes = swap(bytes, help, r#""default":"secret","#);
    let bytes = swap(bytes, r#","required":["path"]"#, "");
    t.write("greedy.wasm", bytes);
    let run = t.finish(&["run", "--plugin", "./greedy.wasm", "--once", "--format", "raw"]);
    let (status, complaint) = (run.status, run.stderr);
    assert_eq!(status, Some(1), "{complaint}");
    assert!(run.stdout.is_empty());
    assert!(complaint.contains("is not granted"), "{complaint}");
}

#[test]
fn waiting_is_not_computing() {
    const PIECES: usize = 2_500;
    let t = TestHost::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("url=http://{}/", server.local_addr().unwrap());
    // Each piece wakes the plugin after more than a millisecond: more often than its limit has those.
    thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {PIECES}\r\n\r\n");
        stream.set_nodelay(true).unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0, "a request");
        stream.write_all(head.as_bytes()).unwrap();
        for _ in 0..PIECES {
            thread::sleep(Duration::from_micros(1_200));
            stream.write_all(b"x").unwrap();
        }
    });
    let run = t.finish(&["run", "--plugin", "http", "--once", "--format", "raw", "--set", &url]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert_eq!(run.stdout.len(), PIECES);
}
