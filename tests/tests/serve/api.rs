//! Endpoints for sources, values, history and the configuration.

use crate::served::{APP, Served};
use e2e::{TestHost, wait_until};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

#[test]
fn source_status_is_listed() {
    let served = Served::app(
        "[[source]]\nname = \"b\"\nplugin = \"file\"\nconfig.path = \"b.in\"\nrequired = false\n",
    );
    let all = served.get("/v1/sources").json();
    let names: Vec<_> = all["sources"].as_array().unwrap().iter().map(|s| &s["name"]).collect();
    assert_eq!(names, ["app", "b"]);
    let app = served.get("/v1/sources/app").json();
    assert_eq!((&app["state"], &app["revision"]), (&"current".into(), &1.into()));
    served.get("/v1/sources/unknown").is_problem(404, "source `unknown` not found");
    served.get("/v1/nothing").is_problem(404, "/openapi.json");
    served.ask("DELETE", "/v1/sources", &[]).is_problem(405, "method");
    assert_eq!(served.ask("HEAD", "/v1/sources/app/value", &[]).status, 200);
}

/// The API returns a value byte for byte, or status 304 if the client's ETag is current.
#[test]
fn value_is_exact_and_conditional() {
    let served = Served::app("");
    let first = served.get("/v1/sources/app/value");
    assert_eq!((first.status, &*first.text), (200, "one"));
    assert_eq!(first.header("reloader-revision"), "1");
    assert_eq!(first.header("reloader-state"), "current");
    let tag = first.header("etag");
    let known = [("if-none-match", tag)];
    let again = served.ask("GET", "/v1/sources/app/value", &known);
    assert_eq!((again.status, &*again.text, again.header("etag")), (304, "", tag));
    let weak = format!("\"other\", W/{tag}");
    let again = served.ask("GET", "/v1/sources/app/value", &[("if-none-match", &weak)]);
    assert_eq!(again.status, 304);
    served.t.replace("app.in", "two");
    let second = served.ask("GET", "/v1/sources/app/value?wait=30s", &known);
    assert_eq!((second.status, &*second.text), (200, "two"));
    assert_ne!(second.header("etag"), tag);
    let old = served.get("/v1/sources/app/value?revision=1");
    assert_eq!((&*old.text, old.header("reloader-state")), ("one", "past"));
    served.get("/v1/sources/app/value?revision=99").is_problem(404, "revision 99");
}

#[test]
fn long_poll_returns_on_change_or_timeout() {
    let t = TestHost::new();
    let served = Served::start(t, APP, &["--listen", "127.0.0.1:0"]);
    served.get("/v1/sources/app/value").is_problem(404, "has no value");
    served.get("/v1/sources/app/value?wait=10ms").is_problem(404, "has no value");
    let url = format!("{}/v1/sources/app/value?wait=30s", served.base);
    let waiting =
        std::thread::spawn(|| ureq::get(url).call().unwrap().into_body().read_to_string());
    served.t.write("app.in", "first");
    assert_eq!(waiting.join().unwrap().unwrap(), "first");
    for wrong in [
        "wait=soon",
        "wait=6m",
        "wait=",
        "wait=0",
        "wait=-1s",
        "revision=x",
        "revision=-1",
        "what=1",
    ] {
        served.get(&format!("/v1/sources/app/value?{wrong}")).is_problem(400, "");
    }
}

#[test]
fn long_poll_does_not_delay_shutdown() {
    let mut served = Served::app("");
    let tag = served.get("/v1/sources/app/value").header("etag").to_owned();
    let base = served.base.clone();
    let waiting = std::thread::spawn(move || {
        let url = format!("{base}/v1/sources/app/value?wait=5m");
        ureq::get(url).header("if-none-match", tag).call().map(|answer| answer.status().as_u16())
    });
    let events = served.open("/v1/events", &[]);
    assert_eq!(served.host.stop().code(), Some(0), "{}", served.host.stderr());
    drop(events);
    let _ = waiting.join().unwrap();
}

#[test]
fn reload_rollback_and_resume_work() {
    let served = Served::app("");
    served.post("/v1/sources/app/rollback").is_problem(409, "no earlier value");
    let tag = served.get("/v1/sources/app/value").header("etag").to_owned();
    served.t.replace("app.in", "two");
    served.ask("GET", "/v1/sources/app/value?wait=30s", &[("if-none-match", &tag)]);
    let done = served.post("/v1/sources/app/rollback?to=1");
    assert!(done.status == 200 && done.text.contains("host resume app"), "{done:?}");
    assert_eq!(served.get("/v1/sources/app/value").text, "one");
    assert_eq!(served.get("/v1/sources/app").json()["pinned"], 1);
    let history = served.get("/v1/sources/app/history").json();
    let events: Vec<_> =
        history["revisions"].as_array().unwrap().iter().map(|entry| &entry["event"]).collect();
    assert_eq!(events, ["rolled-back", "changed", "changed"]);
    assert_eq!(served.post("/v1/sources/app/resume").status, 200);
    e2e::wait_until("the new value", || served.get("/v1/sources/app/value").text == "two");
    assert_eq!(served.post("/v1/sources/app/reload").status, 200);
    served.post("/v1/sources/unknown/reload").is_problem(404, "unknown");
    served.post("/v1/sources/app/rollback?to=x").is_problem(400, "");
    served.get("/v1/sources/app/rollback").is_problem(405, "");
}

#[test]
fn readiness_waits_for_required_sources() {
    let optional =
        "[[source]]\nname = \"b\"\nplugin = \"file\"\nconfig.path = \"b\"\nrequired = false\n";
    let t = TestHost::new();
    let served = Served::start(t, &format!("{APP}{optional}"), &["--listen", "127.0.0.1:0"]);
    assert_eq!(served.get("/healthz").json()["status"], "ok");
    let not_yet = served.get("/readyz");
    assert_eq!(not_yet.status, 503);
    assert_eq!(not_yet.json(), serde_json::json!({ "ready": false, "missing": ["source `app`"] }));
    served.t.write("app.in", "one");
    served.wait_for("/readyz", 200);
}

#[test]
fn openapi_describes_all_endpoints() {
    let served = Served::app("");
    let description = served.get("/openapi.json").json();
    let paths = description["paths"].as_object().unwrap();
    for path in ["/v1/sources/{source}/value", "/v1/events", "/readyz", "/openapi.json"] {
        assert!(paths.contains_key(path), "{path}");
    }
}

#[test]
fn source_details_are_complete() {
    let served = Served::app(
        "[[source]]\nname = \"b\"\nplugin = \"file\"\nconfig.path = \"app.in\"\nstore = false\n\
         [[group]]\nname = \"both\"\nsources = [\"app\", \"b\"]\n\
         [[group.sink]]\ntype = \"exec\"\nname = \"tell\"\ncommand = [\"true\"]\n",
    );
    let app = served.get("/v1/sources/app").json();
    assert_eq!((&app["strategy"], &app["readable"]), (&"hybrid".into(), &true.into()), "{app}");
    assert_eq!((&app["size"], &app["granted"][0]), (&3.into(), &"read app.in".into()), "{app}");
    assert_eq!(
        (&app["counters"]["changes"], &app["activity"][59]),
        (&1.into(), &1.into()),
        "{app}"
    );
    assert_eq!(app["activity"].as_array().unwrap().len(), 60);
    let secret = served.get("/v1/sources/b").json();
    assert_eq!((&secret["readable"], &secret["size"]), (&false.into(), &serde_json::Value::Null));
    let group = served.get("/v1/sources").json()["groups"][0].clone();
    assert_eq!((&group["name"], &group["sources"][1]), (&"both".into(), &"b".into()), "{group}");
    assert_eq!(group["sinks"][0]["name"], "tell", "{group}");
}

#[test]
fn diff_is_line_based() {
    let served = Served::app("");
    served.t.replace("app.in", "one\ntwo\n");
    served.t.replace("app.in", "one\nthree\n");
    wait_until("the value", || served.get("/v1/sources/app/value").text == "one\nthree\n");
    let revision = served.get("/v1/sources/app").json()["revision"].as_u64().unwrap();
    let diff = served.get("/v1/sources/app/diff?from=1").json();
    assert_eq!((&diff["from"], &diff["to"]), (&1.into(), &revision.into()), "{diff}");
    let lines: Vec<_> = diff["lines"].as_array().unwrap().iter().collect();
    assert_eq!(lines.last().unwrap()["text"], "three", "{diff}");
    assert!(lines.iter().any(|line| line["kind"] == "insert" && line["new"] == 2), "{diff}");
    served.get("/v1/sources/app/diff").is_problem(400, "from");
    served.get("/v1/sources/app/diff?from=99").is_problem(404, "revision 99");
    served.t.replace("app.in", b"\xff\xfe");
    served.wait_for("/v1/sources/app/diff?from=1", 409);
    served.get("/v1/sources/app/diff?from=1").is_problem(409, "not UTF-8 text");
}

#[test]
fn rejected_value_is_served_with_content() {
    let served = Served::app("validate = { parse = \"json\" }\nrequired = false\n");
    wait_until("the rejected value", || !served.get("/v1/sources/app/rejected").json().is_null());
    let refused = served.get("/v1/sources/app/rejected").json();
    assert_eq!(refused["content"], "b25l", "{refused}");
    served.get("/v1/sources/unknown/rejected").is_problem(404, "unknown");
}

/// Source that ends with a configuration error, because its settings lack `key`, `hash` or `prefix`.
const IMPOSSIBLE_SOURCE: &str = "[[source]]\nname = \"k\"\nplugin = \"kvs\"\nrequired = false\n\
                        config.url = \"redis://127.0.0.1:1\"\n";

#[test]
fn long_poll_survives_source_replacement() {
    let served = Served::app(IMPOSSIBLE_SOURCE);
    served.host.wait_for_log("source ended");
    let began = Instant::now();
    served.get("/v1/sources/k/value?wait=300ms").is_problem(404, "has no value");
    assert!(began.elapsed() >= Duration::from_millis(300));
    let url = format!("{}/v1/sources/k/value?wait=60s", served.base);
    let waiting =
        thread::spawn(move || ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap());
    let other = IMPOSSIBLE_SOURCE
        .replace("\"kvs\"", "\"file\"")
        .replace("config.url = \"redis://127.0.0.1:1\"", "config.path = \"app.in\"");
    served.t.replace("reloader.toml", format!("{APP}{other}"));
    assert_eq!(waiting.join().unwrap(), "one");
}

/// A request body is ignored, even if it arrives after the head, and the connection stays open.
#[test]
fn request_body_is_ignored() {
    let served = Served::app("");
    let stream = TcpStream::connect(served.base.trim_start_matches("http://")).unwrap();
    let mut answers = BufReader::new(&stream);
    for rest in ["0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"] {
        let head = "POST /v1/sources/app/reload HTTP/1.1\r\nhost: localhost\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        (&stream).write_all(head.as_bytes()).unwrap();
        // If the server did not wait for the body, its response would arrive within this time.
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let early = answers.fill_buf().map(<[u8]>::len);
        assert!(early.is_err(), "the host answered before the end of the body: {early:?}");
        stream.set_read_timeout(Some(e2e::WAIT_TIMEOUT)).unwrap();
        (&stream).write_all(rest.as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(answers.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        answers.read_exact(&mut vec![0; length]).unwrap();
    }
}

/// The value of a source with `store = false` is a secret. The output of a command may contain the value, so
/// the output is only logged, and not served.
#[test]
fn rejection_reason_of_secret_is_hidden() {
    let sink = "[[source.sink]]\ntype = \"exec\"\nretries = 0\n\
                command = \"echo Unusable; cat; exit 3\"\n";
    let check = "validate = { command = \"grep -v 'BAD='\" }\n";
    let served = Served::app(&format!("store = false\nrequired = false\n{check}{sink}"));
    wait_until("the first value", || served.get("/v1/sources/app").json()["revision"] == 1);
    served.t.replace("app.in", "BAD=hunter2");
    served.host.wait_for_log("new value rejected");
    wait_until("the rejection", || {
        let app = served.get("/v1/sources/app").json();
        app["error"].as_str().is_some_and(|error| error.contains("only in the log"))
            && app["sinks"][0]["error"].as_str().is_some_and(|it| it.contains("only in the log"))
    });
    for path in ["/v1/sources", "/v1/sources/app", "/v1/sources/app/rejected", "/metrics"] {
        let text = served.get(path).text;
        assert!(!text.contains("hunter2") && !text.contains("Unusable"), "{path}: {text}");
    }
}

/// Of concurrent rollbacks, the last one wins, and the stored pin matches the published value.
#[test]
fn concurrent_rollbacks_stay_consistent() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let config = APP.replace("path = \"state\"", "path = \"state\"\nhistory = 1000");
    let served = Served::start(t, &config, &["--listen", "127.0.0.1:0"]);
    served.wait_for("/readyz", 200);
    for (value, revision) in [("two", 2), ("three", 3), ("four", 4)] {
        served.t.replace("app.in", value);
        wait_until("the value", || served.get("/v1/sources/app").json()["revision"] == revision);
    }
    for _ in 0..10 {
        let asked: Vec<_> = (0..8)
            .map(|number| {
                let to = 1 + number % 3;
                let url = format!("{}/v1/sources/app/rollback?to={to}", served.base);
                thread::spawn(move || {
                    let agent = ureq::Agent::config_builder().http_status_as_error(false).build();
                    ureq::Agent::from(agent).post(url).send_empty().unwrap().status().as_u16()
                })
            })
            .collect();
        let answers: Vec<_> = asked.into_iter().map(|asked| asked.join().unwrap()).collect();
        assert_eq!(answers, [200; 8]);
        let app = served.get("/v1/sources/app").json();
        let pinned = usize::try_from(app["pinned"].as_u64().unwrap()).unwrap();
        let value = ["one", "two", "three"][pinned - 1];
        assert_eq!(served.get("/v1/sources/app/value").text, value, "{app}");
    }
}

/// A diff may be much longer than the values, so its size is bounded.
#[test]
fn diff_size_is_bounded() {
    let served = Served::app("");
    served.t.replace("app.in", "\n".repeat(1 << 20));
    wait_until("the value", || served.get("/v1/sources/app").json()["revision"] == 2);
    served.t.replace("app.in", "a\n".repeat(1 << 19));
    wait_until("the value", || served.get("/v1/sources/app").json()["revision"] == 3);
    let diff = served.get("/v1/sources/app/diff?from=2&to=3");
    assert_eq!(diff.json()["lines"].as_array().unwrap().len(), 20_001);
}

#[test]
fn rejected_configuration_is_shown_until_fixed() {
    let served = Served::app("");
    let seen = || served.get("/v1/sources").json()["config_error"].clone();
    assert!(seen().is_null());
    served.t.replace("reloader.toml", format!("{APP}intervall = \"1s\"\n"));
    wait_until("the rejection", || seen().as_str().is_some_and(|why| why.contains("`intervall`")));
    assert!(served.get("/metrics").text.contains("reloader_config_rejected 1"));
    assert!(
        served
            .t
            .finish(&["status"])
            .text()
            .contains("the previous configuration is still in effect")
    );
    served.t.replace("reloader.toml", APP);
    wait_until("the configuration error to clear", || seen().is_null());
    assert!(served.get("/metrics").text.contains("reloader_config_rejected 0"));
}
