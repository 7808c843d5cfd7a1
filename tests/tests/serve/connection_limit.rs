//! Connections at the limit: silent clients, long requests, health checks.

use crate::{
    raw_client::{Client, Request, Stream},
    served::{APP, Served},
};
use e2e::{TestHost, wait_until};
use std::{
    io::{BufRead, BufReader, Read, Write},
    time::{Duration, Instant},
};

/// Small connection limit of the tests.
const LIMIT: usize = 4;

fn served() -> (Served, Client) {
    let t = TestHost::new();
    t.write("app.in", "one");
    let config = format!("{APP}[listen]\naddress = \"127.0.0.1:0\"\nconnections = {LIMIT}\n");
    let served = Served::start(t, &config, &[]);
    let port = served.base.rsplit_once(':').unwrap().1.parse().unwrap();
    let client = Client::tcp(port);
    wait_until("readiness", || client.ask(&Request::get("/readyz", None)) == Ok(200));
    (served, client)
}

type Connection = BufReader<Box<dyn Stream>>;

fn silent(client: &Client, count: usize) -> Vec<Connection> {
    (0..count).map(|_| client.connect().unwrap()).collect()
}

/// Clients that connect and send nothing, or only a part of a request, do not prevent other clients from connecting.
#[test]
fn silent_connections_are_closed_for_new_ones() {
    let (served, client) = served();
    let mut all = silent(&client, 10 * LIMIT);
    for connection in all.iter_mut().skip(LIMIT) {
        // The host may have closed the connection already.
        let _ = connection.get_mut().write_all(b"GET /healthz HT");
    }
    for path in ["/healthz", "/v1/sources", "/v1/sources/app/value"] {
        assert_eq!(client.ask(&Request::get(path, None)), Ok(200), "{path}");
    }
    served.host.wait_for_log("connection limit reached");
    assert_eq!(
        served.t.finish(&["status"]).status,
        Some(0),
        "the control socket has no such limit"
    );
    let first = all[0].read(&mut [0]).ok();
    assert!(matches!(first, None | Some(0)), "the oldest silent connection is closed");
}

/// At the limit, the host also closes idle connections that are kept alive after a response.
#[test]
fn kept_alive_connections_are_closed_for_new_ones() {
    let (_served, client) = served();
    let mut kept = silent(&client, LIMIT);
    for connection in &mut kept {
        let head = Request::get("/healthz", None).begin(connection).unwrap();
        connection.read_exact(&mut vec![0; head.length]).unwrap();
    }
    let start = Instant::now();
    wait_until("a free connection for another request", || {
        client.ask(&Request::get("/v1/sources", None)) == Ok(200)
    });
    // The limit has closed a connection: the idle timeout, which applies below the limit too, is 30 seconds.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// Event streams occupy all connections, and are not closed. Above the limit, the host answers short requests, and
/// rejects event streams and long polls with status 503.
#[test]
fn short_requests_are_answered_above_the_limit() {
    let (served, client) = served();
    let mut streams = Vec::new();
    wait_until("event streams on all connections", || {
        // The host may not have noticed yet that an earlier connection is closed.
        let mut stream = client.connect().unwrap();
        if Request::get("/v1/events", None).begin(&mut stream).unwrap().status == 200 {
            streams.push(stream);
        }
        streams.len() == LIMIT
    });
    for path in ["/healthz", "/readyz", "/v1/sources"] {
        assert_eq!(client.ask(&Request::get(path, None)), Ok(200), "{path}");
    }
    assert_eq!(client.ask(&Request::get("/v1/events", None)), Ok(503));
    assert_eq!(client.ask(&Request::get("/v1/sources/app/value?wait=1s", None)), Ok(503));
    served.t.replace("app.in", "two");
    for stream in &mut streams {
        let mut line = String::new();
        while !line.contains("\"revision\":2") {
            line.clear();
            assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the event stream has ended");
        }
    }
    drop(streams);
    wait_until("free connections", || {
        client.ask(&Request::get("/v1/sources/app/value?wait=1s", None)) == Ok(200)
    });
}
