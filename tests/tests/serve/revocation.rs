//! Revocation of tokens and certificates while connections are open: busy and idle connections,
//! long polls and event streams lose their access.
#![allow(clippy::print_stdout, reason = "measured durations")]

use crate::{
    raw_client::{Client, Request},
    served::{APP, Served, token},
};
use e2e::{Authority, TestHost, WAIT_TIMEOUT};
use std::{
    io::{BufRead, Read},
    thread,
    time::Instant,
};

const VALUE: &str = "/v1/sources/app/value";

/// Opens a connection of each kind, calls `revoke`, and waits until none of them has access. Prints
/// the duration; the documentation promises one second.
fn each_connection_loses_its_rights(
    client: impl Fn() -> Client,
    authorization: Option<&str>,
    revoke: impl FnOnce(),
) {
    let request = Request::get(VALUE, authorization);
    let (mut busy, mut idle) = (client(), client());
    assert_eq!(busy.ask_on_kept_connection(&request), Ok(200));
    assert_eq!(idle.ask_on_kept_connection(&request), Ok(200));
    let mut events = client().connect().unwrap();
    let head = Request::get("/v1/events", authorization).begin(&mut events).unwrap();
    assert_eq!(head.status, 200);
    let mut polled = client().connect().unwrap();
    let head = request.begin(&mut polled).unwrap();
    polled.read_exact(&mut vec![0; head.length]).unwrap();

    thread::scope(|scope| {
        let events = scope.spawn(move || {
            // The host closes the connection, or sends the last chunk.
            let mut line = String::new();
            while events.read_line(&mut line).is_ok_and(|read| read > 0) && line != "0\r\n" {
                line.clear();
            }
            Instant::now()
        });
        let polled = scope.spawn(move || {
            let path = format!("{VALUE}?wait=300s");
            let request = Request {
                if_none_match: head.etag.as_deref(),
                ..Request::get(&path, authorization)
            };
            (request.begin(&mut polled).map_or(401, |head| head.status), Instant::now())
        });
        revoke();
        let start = Instant::now();
        while busy.ask_on_kept_connection(&request) == Ok(200) {
            assert!(start.elapsed() < WAIT_TIMEOUT, "a busy connection still has access");
        }
        let busy = start.elapsed();
        assert_ne!(
            idle.ask_on_kept_connection(&request),
            Ok(200),
            "an idle connection is answered"
        );
        let (status, polled) = polled.join().unwrap();
        assert_eq!(status, 401, "status of the long poll");
        let [events, polled] =
            [events.join().unwrap(), polled].map(|at| at.saturating_duration_since(start));
        println!(
            "rights lost after: busy {busy:.0?}, event stream {events:.0?}, long poll {polled:.0?}"
        );
    });
}

#[test]
fn removed_token_ends_open_connections() {
    let (reader, reads) = token(&["reader"]);
    let (_, other) = token(&["other"]);
    let served = Served::app(&reads);
    let port = served.base.rsplit(':').next().unwrap().parse().unwrap();
    each_connection_loses_its_rights(
        || Client::tcp(port),
        Some(&reader),
        || served.t.replace("reloader.toml", format!("{APP}{other}")),
    );
}

#[test]
fn token_without_source_ends_open_connections() {
    let (reader, reads) = token(&["reader"]);
    let (_, limited) = (&reader, format!("{}sources = [\"b\"]\n", reads));
    let b = "[[source]]\nname = \"b\"\nplugin = \"file\"\nconfig.path = \"app.in\"\n";
    let served = Served::app(&format!("{b}{reads}"));
    let mut client = Client::tcp(served.base.rsplit(':').next().unwrap().parse().unwrap());
    let request = Request::get(VALUE, Some(&reader));
    assert_eq!(client.ask_on_kept_connection(&request), Ok(200));
    served.t.replace("reloader.toml", format!("{APP}{b}{limited}"));
    e2e::wait_until("the source is not readable any more", || {
        client.ask_on_kept_connection(&request) == Ok(403)
    });
}

/// Host that accepts client certificates, and the credentials of its clients.
struct ByCertificate {
    served: Served,
    port: u16,
    servers: Authority,
    client: e2e::Identity,
}

impl ByCertificate {
    fn start() -> Self {
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let t = TestHost::new();
        t.write("app.in", "one");
        let identity = servers.server(&["localhost"]);
        t.write("server.pem", &identity.certificate);
        t.write("server.key", &identity.key);
        t.write("clients.pem", clients.pem());
        t.write("others.pem", Authority::new("others").pem());
        let served = Served::start(t, &Self::config("client-ca = \"clients.pem\""), &[]);
        let port = served.base.rsplit(':').next().unwrap().parse().unwrap();
        let started = Self { served, port, servers, client: clients.client("me") };
        e2e::wait_until("the first value", || {
            started.client().ask(&Request::get(VALUE, None)) == Ok(200)
        });
        started
    }

    fn config(clients: &str) -> String {
        format!(
            "{APP}[listen]\naddress = \"0.0.0.0:0\"\n\
             [listen.tls]\ncert = \"server.pem\"\nkey = \"server.key\"\n{clients}\n"
        )
    }

    fn client(&self) -> Client {
        Client::tls(self.port, &self.servers, Some(&self.client))
    }
}

#[test]
fn replaced_client_ca_file_ends_open_connections() {
    let host = ByCertificate::start();
    let revoke = || host.served.t.replace("clients.pem", Authority::new("new").pem());
    each_connection_loses_its_rights(|| host.client(), None, revoke);
}

#[test]
fn other_client_ca_in_configuration_ends_open_connections() {
    let host = ByCertificate::start();
    let config = ByCertificate::config("client-ca = \"others.pem\"");
    let revoke = || host.served.t.replace("reloader.toml", &config);
    each_connection_loses_its_rights(|| host.client(), None, revoke);
}

#[test]
fn removed_client_ca_ends_open_connections() {
    let host = ByCertificate::start();
    let (_, reads) = token(&["reader"]);
    let config = ByCertificate::config(&reads);
    let revoke = || host.served.t.replace("reloader.toml", &config);
    each_connection_loses_its_rights(|| host.client(), None, revoke);
}

#[test]
fn renewed_server_certificate_keeps_open_connections() {
    let host = ByCertificate::start();
    let mut client = host.client();
    assert_eq!(client.ask_on_kept_connection(&Request::get(VALUE, None)), Ok(200));
    let renewed = host.servers.server(&["localhost"]);
    host.served.t.write("server.key", &renewed.key);
    host.served.t.write("server.pem", &renewed.certificate);
    host.served.host.wait_for_log("TLS files of the API reloaded");
    assert_eq!(client.ask_on_kept_connection(&Request::get(VALUE, None)), Ok(200));
}

/// Makes a TLS file of the API unusable, then replaces the authority of client certificates. Asserts that open
/// connections lose their access.
fn assert_authority_revoked(name: &str, make_unusable: fn(&TestHost, &str)) {
    let host = ByCertificate::start();
    make_unusable(&host.served.t, name);
    host.served.host.wait_for_log("TLS file of the API unusable");
    let revoke = || host.served.t.replace("clients.pem", Authority::new("new").pem());
    each_connection_loses_its_rights(|| host.client(), None, revoke);
}

e2e::cases! {
    /// The removal of an authority takes effect even if a TLS file is unusable at the same time.
    mod unusable_tls_file_does_not_delay_revocation: assert_authority_revoked {
        fifo_as_client_ca("clients.pem", named_pipe);
        oversized_client_ca("clients.pem", oversized_file);
        invalid_key("server.key", junk);
        fifo_as_certificate("server.pem", named_pipe);
    }
}

/// The removal of a token takes effect even if the key file of the server is unusable at the same time.
#[test]
fn unusable_key_does_not_delay_token_removal() {
    let host = ByCertificate::start();
    let (reader, reads) = token(&["reader"]);
    let (_, other) = token(&["other"]);
    let config =
        |tokens: &str| ByCertificate::config(&format!("client-ca = \"clients.pem\"\n{tokens}"));
    host.served.t.replace("reloader.toml", config(&reads));
    let client = Client::tls(host.port, &host.servers, None);
    let request = Request::get(VALUE, Some(&reader));
    e2e::wait_until("the token is accepted", || client.ask(&request) == Ok(200));
    junk(&host.served.t, "server.key");
    host.served.host.wait_for_log("TLS file of the API unusable");
    host.served.t.replace("reloader.toml", config(&other));
    e2e::wait_until("the token is rejected", || client.ask(&request) == Ok(401));
}

fn named_pipe(t: &TestHost, name: &str) {
    let new = t.path("pipe.new");
    let made = std::process::Command::new("mkfifo").arg(&new).status().unwrap();
    assert!(made.success());
    std::fs::rename(new, t.path(name)).unwrap();
}

fn oversized_file(t: &TestHost, name: &str) {
    std::fs::File::create(t.path("large.new")).unwrap().set_len(1 << 30).unwrap();
    std::fs::rename(t.path("large.new"), t.path(name)).unwrap();
}

fn junk(t: &TestHost, name: &str) {
    t.replace(name, "not PEM");
}
