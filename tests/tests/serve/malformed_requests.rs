//! Malformed requests: each is answered with problem details (RFC 9457).

use crate::served::Served;
use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// Sends the head of a request without a body. Returns the response.
fn exchange(served: &Served, head: &str) -> String {
    let mut stream = TcpStream::connect(served.base.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(e2e::WAIT_TIMEOUT)).unwrap();
    stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[track_caller]
fn assert_problem(served: &Served, head: &str, status: &str) {
    let response = exchange(served, head);
    let (start, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(start.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {response}");
    assert!(start.contains("content-type: application/problem+json"), "{head}: {response}");
    if !head.starts_with("HEAD") {
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_ne!(problem["detail"], "", "{head}: {response}");
    }
}

#[test]
fn malformed_requests_are_answered_with_problems() {
    let served = Served::app("");
    let check = |method: &str, target: &str, status: &str| {
        let head = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n");
        assert_problem(&served, &head, status);
    };
    for rest in ["", "/value", "/events", "/history", "/rejected", "/diff?from=1"] {
        check("GET", &format!("/v1/sources/%ff{rest}"), "400");
    }
    for command in ["reload", "rollback", "resume"] {
        check("POST", &format!("/v1/sources/%ff/{command}"), "400");
    }
    for query in ["value?revision=x", "value?wait=1s&wait=2s", "value?what=1", "diff", "diff?from="]
    {
        check("GET", &format!("/v1/sources/app/{query}"), "400");
    }
    check("HEAD", "/v1/sources/app/value?revision=x", "400");
    check("POST", "/v1/sources/app/rollback?to=-1", "400");
    check("GET", "/v1/sources?limit=x", "400");
    for path in ["/v1/nothing", "//", "/%ff", "/v1/sources/", "/v1/sources/app/value/"] {
        check("GET", path, "404");
    }
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
        for path in ["/v1/sources", "/v1/sources/app/value", "/metrics", "/healthz", "/"] {
            check(method, path, "405");
        }
    }
}

/// A request without exactly one valid `Host` header is answered with status 400 (RFC 9112, section 3.2).
#[test]
fn request_must_have_one_host_header() {
    let served = Served::app("");
    for path in ["/healthz", "/v1/sources/app/value"] {
        for headers in [
            "",
            "host: localhost\r\nhost: localhost\r\n",
            "host: localhost\r\nhost: evil.example\r\n",
            "host: local host\r\n",
        ] {
            let head = format!("GET {path} HTTP/1.1\r\n{headers}");
            assert_problem(&served, &head, "400");
        }
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
        assert!(exchange(&served, &head).starts_with("HTTP/1.1 200"), "{path}");
    }
    // The host name in an absolute request target takes precedence over the `Host` header.
    let head = "GET http://evil.example/v1/sources HTTP/1.1\r\nhost: localhost\r\n";
    assert_problem(&served, head, "421");
}
