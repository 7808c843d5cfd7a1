//! Connections of a host with few open files (`ulimit -n`).

use crate::{
    raw_client::{Client, Request},
    served::APP,
};
use e2e::{TestHost, wait_until};

/// Silent clients leave file descriptors to sources, sinks and health checks.
#[test]
fn silent_clients_leave_open_files_to_the_host() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let sink = "[[source.sink]]\ntype = \"file\"\npath = \"app.out\"\n";
    let config = format!("{APP}{sink}[listen]\naddress = \"127.0.0.1:0\"\n");
    t.write("reloader.toml", config);
    let arguments = ["run", "--config", "reloader.toml", "--log-level", "debug"];
    let host = t.run_with_ulimit("-n 64", &arguments);
    t.wait_for_file("app.out", "one");
    host.wait_for_log("API listening url=");
    host.wait_for_log("connection limit reduced by the open-file limit (`ulimit -n`)");
    let log = host.stderr();
    let (_, url) = log.split_once("API listening url=").unwrap();
    let (_, port) = url.lines().next().unwrap().rsplit_once(':').unwrap();
    let client = Client::tcp(port.trim().parse().unwrap());
    let _silent: Vec<_> = (0..100).map(|_| client.connect().unwrap()).collect();
    wait_until("an answer beside silent clients", || {
        client.ask(&Request::get("/healthz", None)) == Ok(200)
    });
    for value in ["two", "three"] {
        t.replace("app.in", value);
        t.wait_for_file("app.out", value);
    }
    assert_eq!(t.finish(&["status"]).status, Some(0), "by the control socket");
    assert!(!host.stderr().contains("Too many open files"), "{}", host.stderr());
}
