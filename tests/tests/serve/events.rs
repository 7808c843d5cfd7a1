//! Tests of the server-sent events of the HTTP API.

use crate::served::{APP, Served, token};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};

/// Parser of an event stream.
struct Events(BufReader<Box<dyn Read + Send>>);

#[derive(Debug)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

impl Events {
    fn subscribe(served: &Served, path: &str, last: Option<&str>) -> Self {
        let headers: Vec<_> = last.map(|last| ("last-event-id", last)).into_iter().collect();
        Self::open(served, path, &headers)
    }

    fn open(served: &Served, path: &str, headers: &[(&str, &str)]) -> Self {
        let response = served.open(path, headers);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(BufReader::new(Box::new(response.into_body().into_reader())))
    }

    fn next(&mut self) -> Event {
        let mut event = Event { id: String::new(), kind: String::new(), data: Value::Null };
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the event stream has ended");
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => event.id = id.into(),
                Some(("event", kind)) => event.kind = kind.into(),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ if line == "\n" && !event.kind.is_empty() => return event,
                _ => {}
            }
        }
    }

    fn until(&mut self, mut is_it: impl FnMut(&Event) -> bool) -> Event {
        loop {
            let event = self.next();
            if is_it(&event) {
                return event;
            }
        }
    }
}

#[test]
fn stream_starts_with_all_sources() {
    let served = Served::app(
        "[[source]]\nname = \"b\"\nplugin = \"file\"\nconfig.path = \"b.in\"\n\
                              required = false\n",
    );
    let mut events = Events::subscribe(&served, "/v1/events", None);
    assert_eq!(events.next().kind, "begin");
    let mut names = [events.next(), events.next()].map(|event| event.data["source"].clone());
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["app", "b"]);
    served.t.replace("app.in", "two");
    let event = events.until(|event| event.data["revision"] == 2);
    assert_eq!((&*event.kind, &event.data["source"]), ("source", &"app".into()));
    assert_eq!(event.data["etag"], served.get("/v1/sources/app/value").header("etag"));
    served.t.write("b.in", "1");
    events.until(|event| event.data["source"] == "b" && event.data["state"] == "current");
}

#[test]
fn source_stream_excludes_others() {
    let served = Served::app(
        "[[source]]\nname = \"b\"\nplugin = \"file\"\nconfig.path = \"b.in\"\n\
                              required = false\n",
    );
    let mut events = Events::subscribe(&served, "/v1/sources/app/events", None);
    served.t.write("b.in", "1");
    served.t.replace("app.in", "two");
    events.until(|event| {
        assert_ne!(event.data["source"], "b");
        event.data["revision"] == 2
    });
    served.get("/v1/sources/unknown/events").is_problem(404, "unknown");
}

/// A client that resumes with a `Last-Event-ID` receives only the newest event of each changed source.
/// With the ID of another host process, or an invalid ID, the stream starts anew with all sources.
#[test]
fn last_event_id_resumes_stream() {
    let mut served = Served::app(
        "[[source]]\nname = \"b\"\nplugin = \"file\"\nconfig.path = \"b.in\"\nrequired = false\n",
    );
    served.t.write("b.in", "1");
    let mut events = Events::subscribe(&served, "/v1/events", None);
    let mut there = 0;
    let last = events.until(|event| {
        there += usize::from(event.data["state"] == "current");
        there == 2
    });
    drop(events);
    for value in 2..10 {
        served.t.replace("app.in", value.to_string());
        e2e::wait_until("the new value", || {
            served.get("/v1/sources/app/value").text == value.to_string()
        });
    }
    let newest = served.get("/v1/sources/app").json()["revision"].clone();
    // The client receives only the newest event of each changed source.
    let mut events = Events::subscribe(&served, "/v1/events", Some(&last.id));
    let first = events.next();
    assert_eq!((&first.data["source"], &first.data["revision"]), (&"app".into(), &newest));
    let other = format!("0-{}", last.id.split_once('-').unwrap().1);
    for id in [&*other, "nonsense", "", "0-99999999999999999999999"] {
        assert_eq!(Events::subscribe(&served, "/v1/events", Some(id)).next().kind, "begin", "{id}");
    }
    assert_eq!(served.host.stop().code(), Some(0), "{}", served.host.stderr());
}

/// A client that resumes learns that a source was removed while the host had no clients.
#[test]
fn removal_without_clients_is_reported_on_resumption() {
    let served =
        Served::app("[[source]]\nname = \"b\"\nplugin = \"file\"\nconfig.path = \"app.in\"\n");
    let mut events = Events::subscribe(&served, "/v1/events", None);
    let mut names = std::collections::BTreeSet::new();
    let last = events.until(|event| {
        names.insert(event.data["source"].to_string());
        names.contains("\"app\"") && names.contains("\"b\"")
    });
    drop(events);
    served.t.replace("reloader.toml", APP);
    served.wait_for("/v1/sources/b", 404);
    let mut events = Events::subscribe(&served, "/v1/events", Some(&last.id));
    events.until(|event| {
        assert_ne!(event.kind, "begin");
        event.kind == "gone" && event.data["source"] == "b"
    });
}

/// Each change of a status is reported, also one that publishes no value: failed reads, failing sinks, pins.
#[test]
fn status_changes_without_new_values_are_reported() {
    let served = Served::app(
        "[[source.sink]]\ntype = \"file\"\npath = \"directory\"\nretries = 0\n\
         [[source]]\nname = \"b\"\nplugin = \"file\"\nconfig.path = \"b.in\"\nrequired = false\n",
    );
    let mut events = Events::subscribe(&served, "/v1/events", None);
    std::fs::create_dir(served.t.path("b.in")).unwrap();
    events.until(|event| event.data["source"] == "b" && event.data["error"].is_string());
    std::fs::remove_file(served.t.path("directory")).unwrap();
    std::fs::create_dir(served.t.path("directory")).unwrap();
    served.t.replace("app.in", "two");
    events.until(|event| event.data["sinks"][0]["error"].is_string());
    assert_eq!(served.post("/v1/sources/app/rollback?to=1").status, 200);
    events.until(|event| event.data["pinned"] == 1);
    assert_eq!(served.post("/v1/sources/app/resume").status, 200);
    events.until(|event| event.data["source"] == "app" && event.data["pinned"].is_null());
}

#[test]
fn extended_token_sees_new_sources() {
    let (bearer, reads) = token(&["reader", "--source", "app"]);
    let b = "[[source]]\nname = \"b\"\nplugin = \"file\"\nconfig.path = \"app.in\"\n";
    let served = Served::app(&format!("{b}{reads}"));
    let mut events = Events::open(&served, "/v1/events", &[("authorization", &bearer)]);
    events.until(|event| event.data["source"] == "app");
    let more = reads.replace("[\"app\"]", "[\"app\", \"b\"]");
    assert_ne!(reads, more);
    served.t.replace("reloader.toml", format!("{APP}{b}{more}"));
    events.until(|event| event.kind == "begin");
    events.until(|event| event.data["source"] == "b");
}

#[test]
fn shutdown_sends_no_source_events() {
    let mut served = Served::app("");
    let mut events = Events::subscribe(&served, "/v1/events", None);
    events.until(|event| event.data["source"] == "app");
    assert_eq!(served.host.stop().code(), Some(0), "{}", served.host.stderr());
    let mut rest = String::new();
    events.0.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("gone") && !rest.contains("data"), "{rest}");
}

#[test]
fn added_and_removed_sources_are_reported() {
    let served = Served::app("");
    let mut events = Events::subscribe(&served, "/v1/events", None);
    events.until(|event| event.data["source"] == "app");
    let new = "[[source]]\nname = \"new\"\nplugin = \"file\"\nconfig.path = \"app.in\"\n";
    served.t.replace("reloader.toml", format!("[state]\npath = \"state\"\n{new}"));
    let (mut is_gone, mut is_new) = (false, false);
    events.until(|event| {
        is_gone |= event.kind == "gone" && event.data["source"] == "app";
        is_new |= event.data["source"] == "new" && event.data["state"] == "current";
        is_gone && is_new
    });
    // The stream also reports later changes of the added source, which reads `app.in`.
    served.t.replace("app.in", "two");
    events.until(|event| event.data["source"] == "new" && event.data["revision"] == 2);
}
