//! `host run --plugin http` against nginx.

use e2e::{Nginx, Running, TestHost, hostile, wait_until};
use std::sync::atomic::{AtomicU32, Ordering};

fn run(t: &TestHost, settings: &[&str], interval: &str) -> Running {
    let mut arguments = vec!["run", "--plugin", "http", "--interval", interval];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    t.run(&arguments)
}

/// Serves the value `a` as `app.txt`, starts a host that polls it, and waits for the value.
fn poll_app(t: &TestHost, nginx: &Nginx) -> Running {
    nginx.put("app.txt", "a");
    let url = format!("url={}", nginx.url("/app.txt"));
    let mut run = run(t, &[&url], "20ms");
    run.wait_for_value("a");
    run
}

#[test]
fn polling_uses_conditional_requests() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    nginx.put("app.json", r#"{"a":1}"#);
    // nginx derives the ETag from the modification time in seconds. So the plugin trusts the ETag only
    // if the file is old.
    nginx.age("app.json", 100);
    let url = format!("url={}", nginx.url("/app.json"));
    let mut run = run(&t, &[&url], "30ms");
    let first = run.wait_for_value(r#"{"a":1}"#);
    assert_eq!(first["media_type"], "application/json");
    wait_until("a conditional request", || nginx.requests().contains(&"GET /app.json 304".into()));
    nginx.put("app.json", r#"{"a":2}"#);
    run.wait_for_value(r#"{"a":2}"#);
}

#[test]
fn same_etag_within_second_is_reread() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    let mut run = poll_app(&t, &nginx);
    for content in ["b", "c", "d"] {
        nginx.put("app.txt", content);
        run.wait_for_value(content);
    }
}

#[test]
fn not_found_removes_value() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    let mut run = poll_app(&t, &nginx);
    nginx.remove("app.txt");
    run.wait_for_event("removed");
    nginx.put("app.txt", "a");
    assert_eq!(run.wait_for_value("a")["revision"], 3);
}

#[test]
fn server_error_keeps_value() {
    let t = TestHost::new();
    let requests = AtomicU32::new(0);
    let server = hostile::http(move |_, stream| {
        let (status, body) = match requests.fetch_add(1, Ordering::Relaxed) {
            0 => ("200 OK", "a"),
            1..4 => ("503 Service Unavailable", "not now"),
            _ => ("200 OK", "b"),
        };
        hostile::respond(stream, status, "", body.as_bytes())
    });
    let url = format!("url={}", server.url("/app.txt"));
    let mut run = run(&t, &[&url], "20ms");
    assert_eq!(run.wait_for_event("changed")["content"], "a");
    run.wait_for_log("503");
    // The next event is the next value: the error caused no event `removed`.
    let line = run.event();
    assert_eq!((&line["event"], &line["content"]), (&"changed".into(), &"b".into()), "{line}");
}

#[test]
fn redirect_is_followed_within_origin() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    nginx.put("app.json", "{}");
    let once = |path: &str| {
        let url = format!("url={}", nginx.url(path));
        t.finish(&["run", "--plugin", "http", "--once", "--set", &url, "--log-level", "error"])
    };
    assert!(once("/moved").text().contains(r#""content":"{}""#));
    let elsewhere = once("/elsewhere");
    let (status, error) = elsewhere.status_and_error();
    assert_eq!(status, Some(1));
    assert!(error.contains("127.0.0.1:1"), "{error}");
    let refused = once("/refused");
    let (status, error) = refused.status_and_error();
    assert_eq!(status, Some(1));
    assert!(error.contains("403"), "{error}");
}

#[test]
fn credentials_do_not_follow_redirect() {
    let (Some(nginx), Some(other)) = (Nginx::start(), Nginx::start()) else { return };
    let t = TestHost::new();
    let once = |to: &str, more: &[&str]| {
        let url = nginx.url(&format!("/to?url={to}"));
        let url = format!("url={}", url.replacen("http://", "http://user:secret@", 1));
        let run = ["run", "--plugin", "http", "--once", "--format", "raw", "--set", &url];
        t.finish(&[&run[..], &["--set", r#"headers={"x-key":"k"}"#], more].concat())
    };
    let within = once("/echo", &[]);
    assert_eq!(within.text(), "key=k authorization=Basic dXNlcjpzZWNyZXQ=");
    let elsewhere = other.url("/echo");
    let refused = once(&elsewhere, &[]);
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("which is not granted"), "{refused:?}");
    assert!(other.requests().is_empty());
    // The setting `watch_url` grants the other origin.
    let events = format!("watch_url={}", other.url("/events"));
    assert_eq!(once(&elsewhere, &["--set", &events]).text(), "key= authorization=");
}

#[test]
fn server_sent_event_triggers_read() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    nginx.put("app.txt", "0");
    let (url, events) = (nginx.url("/app.txt"), nginx.url("/events"));
    let settings = [format!("url={url}"), format!("watch_url={events}"), "watch=sse".into()];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mut run = run(&t, &settings, "1h");
    run.wait_for_value("0");
    for number in 1..5 {
        nginx.put("app.txt", &number.to_string());
        wait_until("a subscriber at `/events`", || nginx.publish("changed") > 0);
        run.wait_for_value(&number.to_string());
    }
}

#[test]
fn long_poll_triggers_read() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    nginx.put("app.txt", "0");
    nginx.publish("first");
    let (url, events) = (nginx.url("/app.txt"), nginx.url("/events"));
    let settings = [format!("url={url}"), format!("watch_url={events}"), "watch=long-poll".into()];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mut run = run(&t, &settings, "1h");
    run.wait_for_value("0");
    for number in 1..5 {
        wait_until("a request is held", || nginx.subscribers() > 0);
        nginx.put("app.txt", &number.to_string());
        nginx.publish("changed");
        run.wait_for_value(&number.to_string());
    }
}

/// Without the setting `watch_url`, the strategy `hybrid` polls and logs no warning.
#[test]
fn missing_watch_is_no_warning() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    let run = poll_app(&t, &nginx);
    run.wait_for_log("watch");
    wait_until("several polls", || nginx.requests().len() > 5);
    assert!(!run.stderr().contains("WARN"), "{}", run.stderr());
}

#[test]
fn realtime_without_watch_is_rejected() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    nginx.put("app.txt", "a");
    let url = format!("url={}", nginx.url("/app.txt"));
    let run = t.finish(&["run", "--plugin", "http", "--set", &url, "--strategy", "realtime"]);
    assert_eq!(run.status, Some(2), "{run:?}");
    assert!(run.stderr.contains("cannot be watched (strategy realtime)"), "{run:?}");
}
