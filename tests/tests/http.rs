//! `host run --plugin http`: a value behind a URL of a real nginx.

use e2e::{Nginx, Running, TestHost, wait_until};

fn run(t: &TestHost, settings: &[&str], interval: &str) -> Running {
    let mut arguments = vec!["run", "--plugin", "http", "--interval", interval];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    t.run(&arguments)
}

#[test]
fn a_url_is_polled_with_conditional_requests() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    nginx.put("app.json", r#"{"a":1}"#);
    // Old enough for its ETag, which is made of seconds, to be trusted.
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
fn two_writes_in_one_second_are_two_values_although_the_etag_is_the_same() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    nginx.put("app.txt", "a");
    let url = format!("url={}", nginx.url("/app.txt"));
    let mut run = run(&t, &[&url], "20ms");
    run.wait_for_value("a");
    for content in ["b", "c", "d"] {
        nginx.put("app.txt", content);
        run.wait_for_value(content);
    }
}

#[test]
fn what_is_gone_is_removed_and_a_server_error_removes_nothing() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    nginx.put("app.txt", "a");
    let url = format!("url={}", nginx.url("/app.txt"));
    let mut run = run(&t, &[&url], "20ms");
    run.wait_for_value("a");
    nginx.remove("app.txt");
    run.wait_for_event("removed");
    nginx.put("app.txt", "a");
    assert_eq!(run.wait_for_value("a")["revision"], 3);
}

#[test]
fn a_redirect_is_followed_to_the_same_origin_only() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    nginx.put("app.json", "{}");
    let once = |path: &str| {
        let url = format!("url={}", nginx.url(path));
        t.finish(&["run", "--plugin", "http", "--once", "--set", &url, "--log-level", "error"])
    };
    assert!(once("/moved").text().contains(r#""content":"{}""#));
    let elsewhere = once("/elsewhere");
    let (status, complaint) = elsewhere.complaint();
    assert_eq!(status, Some(1));
    assert!(complaint.contains("127.0.0.1:1"), "{complaint}");
    let refused = once("/refused");
    let (status, complaint) = refused.complaint();
    assert_eq!(status, Some(1));
    assert!(complaint.contains("403"), "{complaint}");
}

#[test]
fn what_is_meant_for_one_origin_does_not_follow_a_redirect_to_another() {
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
    // The other origin is granted, by a setting of its own.
    let events = format!("watch_url={}", other.url("/events"));
    assert_eq!(once(&elsewhere, &["--set", &events]).text(), "key= authorization=");
}

#[test]
fn server_sent_events_lead_to_a_read() {
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
        wait_until("somebody hears it", || nginx.publish("changed") > 0);
        run.wait_for_value(&number.to_string());
    }
}

#[test]
fn a_long_poll_leads_to_a_read() {
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

#[test]
fn without_a_watch_it_polls_and_says_so_once() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    nginx.put("app.txt", "a");
    let url = format!("url={}", nginx.url("/app.txt"));
    let mut run = run(&t, &[&url], "20ms");
    run.wait_for_value("a");
    run.wait_for_log("watch");
    assert!(!run.stderr().contains("WARN"), "{}", run.stderr());
}

#[test]
fn realtime_without_a_watch_is_a_wrong_setting() {
    let Some(nginx) = Nginx::start() else { return };
    let t = TestHost::new();
    nginx.put("app.txt", "a");
    let url = format!("url={}", nginx.url("/app.txt"));
    let run = t.finish(&["run", "--plugin", "http", "--set", &url, "--strategy", "realtime"]);
    assert_eq!(run.status, Some(2), "{run:?}");
    assert!(run.stderr.contains("cannot be watched (strategy realtime)"), "{run:?}");
}
