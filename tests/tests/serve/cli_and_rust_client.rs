//! Clients of a running host: the command line and the Rust client.

use crate::served::{APP, Served, token};
use e2e::{TestHost, wait_until};
use reloader_host::client::{Change, Client, ClientError};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

#[test]
fn cli_finds_local_host_by_configuration() {
    let t = TestHost::new();
    t.write("app.in", "one");
    t.write("reloader.toml", APP);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the control socket", || t.path("state/control.sock").exists());
    wait_until("the first value", || t.finish(&["get", "app"]).stdout == b"one");
    let status = t.finish(&["status"]);
    let table = String::from_utf8(status.stdout).unwrap();
    let row = table.lines().find(|line| line.trim().starts_with("app "));
    let row = row.unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("current") && row.contains(" ago"), "{table}");
    let status: Value = serde_json::from_slice(&t.finish(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["sources"][0]["revision"], 1, "{status}");
    let none = t.finish(&["get", "unknown"]);
    assert_eq!(
        (none.status, none.stderr.contains("source `unknown` not found; available: `app`")),
        (Some(1), true)
    );
    assert_eq!(host.stop().code(), Some(0));
    let gone = t.finish(&["status"]);
    assert_eq!(gone.status, Some(1));
    assert!(gone.stderr.contains("cannot connect to the host at"), "{}", gone.stderr);
}

#[test]
fn watch_prints_events_until_stdout_closes() {
    let served = Served::app("");
    let mut watching = served.t.run(&["watch", "app", "--url", &served.base]);
    let line = watching.event();
    assert_eq!(
        (&line["source"], &line["event"], &line["content"]),
        (&"app".into(), &"changed".into(), &"one".into())
    );
    assert!(line["at"].as_str().unwrap().ends_with('Z'), "{line}");
    served.t.replace("app.in", "two");
    let line = watching.event();
    assert_eq!((&line["revision"], &line["content"]), (&2.into(), &"two".into()));
    std::fs::remove_file(served.t.path("app.in")).unwrap();
    assert_eq!(watching.event()["event"], "removed");
    served.t.write("app.in", "three");
    assert_eq!(watching.event()["content"], "three");
    assert_eq!(watching.stop().code(), Some(0), "{}", watching.stderr());
}

#[test]
fn insufficient_token_is_explained() {
    let (bearer, reads) = token(&["reader"]);
    let token = bearer.trim_start_matches("Bearer ");
    let served = Served::app(&reads);
    served.t.write("token", format!("{token}\n"));
    let ask = |arguments: &[&str]| served.t.finish(&[arguments, &["--url", &served.base]].concat());
    let without = ask(&["get", "app"]);
    assert_eq!(without.status, Some(1));
    assert!(without.stderr.contains("--token-file"), "{}", without.stderr);
    assert_eq!(ask(&["get", "app", "--token-file", "token"]).stdout, b"one");
    let weak = ask(&["reload", "app", "--token-file", "token"]);
    assert!(weak.stderr.contains("requires scope `admin`"), "{}", weak.stderr);
    let by_variable =
        served.t.finish_with("RELOADER_TOKEN", token, &["get", "app", "--url", &served.base]);
    assert_eq!(by_variable.stdout, b"one");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_reconnects_after_host_restart() {
    let mut served = Served::app("");
    let socket = served.t.path("state/control.sock");
    let client = Client::at_socket(&socket);
    let mut values = client.watch("app");
    let Change::Value(value) = values.next().await.unwrap() else { panic!("expected a value") };
    assert_eq!((&*value.content, value.revision, &*value.state), (&b"one"[..], 1, "current"));
    assert_eq!(served.host.stop().code(), Some(0));
    served.t.replace("app.in", "two");
    let _host = served.t.run(&["run", "--config", "reloader.toml"]);
    loop {
        // The restarted host may deliver the stored value again before it has read the new one.
        match values.next().await.unwrap() {
            Change::Value(value) if *value.content == *b"two" => break,
            Change::Value(value) => assert_eq!(*value.content, *b"one"),
            Change::Removed { .. } => panic!("the value was not removed"),
        }
    }
    let detail = client.source("app").await.unwrap();
    assert_eq!((detail.status.revision, detail.granted), (2, vec!["read app.in".to_owned()]));
    let diff = client.diff("app", 1, None).await.unwrap();
    assert_eq!(diff.lines.iter().map(|line| &*line.kind).collect::<Vec<_>>(), ["delete", "insert"]);
    let none = client.watch("unknown").next().await.unwrap_err();
    assert!(matches!(none, ClientError::ErrorResponse { status: 404, .. }), "{none}");
}

/// The host serves values of sources with `store = false` on the control socket only: a user who may open
/// this socket may also read the state store.
#[test]
fn secrets_are_served_only_on_control_socket() {
    let served = Served::app("store = false\n");
    let refused = served.t.finish(&["get", "app", "--url", &served.base]);
    assert!(refused.stderr.contains("are secrets"), "{}", refused.stderr);
    assert_eq!(served.t.finish(&["get", "app"]).stdout, b"one");
}

#[test]
fn stateless_host_is_found_by_listen_address() {
    let t = TestHost::new();
    t.write("reloader.toml", APP.replace("path = \"state\"", "enabled = false"));
    let asked = t.finish(&["status"]);
    let (status, output) = asked.status_and_error();
    assert!(status == Some(2) && output.contains("`--url`"), "{output}");
    let both = t.finish(&["status", "--config", "reloader.toml", "--url", "http://127.0.0.1:1"]);
    assert_eq!(both.status, Some(2), "{}", both.stderr);
}

/// Responses of a server are written to a terminal, so control characters are escaped.
#[test]
fn server_output_is_escaped_on_terminal() {
    let evil = "\\u001b]0;owned\\u0007\\u202e";
    let source = format!(
        r#"{{"name":"{evil}","plugin":"p","state":"{evil}","pinned":null,"revision":1,"at":null,
            "last_success_at":null,"error":"{evil}","sinks":[],"activity":[]}}"#
    );
    let entry = format!(
        r#"{{"revision":1,"at":"2026-01-01T00:00:00Z","event":"{evil}","pinned":false,
            "sha256":"aaaaaaaaaaaaaaaé{evil}","size":1,"media_type":null}}"#
    );
    let t = TestHost::new();
    let server = Canned::new(move |path| match path {
        "/v1/sources" => {
            let group = format!(r#"{{"name":"{evil}","sources":[],"sinks":[]}}"#);
            format!(r#"{{"sources":[{source}],"groups":[{group}]}}"#)
        }
        "/v1/sources/app/history" => format!(r#"{{"revisions":[{entry}]}}"#),
        _ => format!(r#"{{"message":"{evil}"}}"#),
    });
    for asked in [&["status"][..], &["history", "app"], &["reload", "app"], &["rollback", "app"]] {
        let finished = t.finish(&[asked, &["--url", &server.0]].concat());
        let output = finished.text() + &finished.stderr;
        assert!(!output.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{asked:?}: {output:?}");
        assert!(!output.contains("panicked"), "{asked:?}: {output}");
    }
}

/// Server that answers each path with the JSON that a function returns.
struct Canned(String);

impl Canned {
    fn new(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                let body = answer(first.split(' ').nth(1).unwrap_or_default());
                let _ = lines.take_while(|line| !line.is_empty()).count();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = (&stream).write_all((head + &body).as_bytes());
            }
        });
        Self(address)
    }
}
