//! TLS with Redis and nginx: trusted authorities, client certificates, rotation and errors.

use e2e::{Authority, Finished, Identity, Nginx, Redis, Running, TestHost, wait_until};

/// Creates a directory with the files that [`CA_FLAGS`] and [`CLIENT_FLAGS`] name.
fn host(ca: &Authority, client: Option<&Identity>) -> TestHost {
    let t = TestHost::new();
    t.write("ca.pem", ca.pem());
    if let Some(client) = client {
        t.write("client.pem", &client.certificate);
        t.write("client.key", &client.key);
    }
    t
}

const CA_FLAGS: [&str; 2] = ["--tls-ca", "ca.pem"];
const CLIENT_FLAGS: [&str; 4] = ["--tls-cert", "client.pem", "--tls-key", "client.key"];

/// Runs the host until it has read the key `app` once.
fn key_once(t: &TestHost, url: &str, flags: &[&str]) -> Finished {
    let plugin = ["run", "--plugin", "kvs", "--once", "--format", "raw", "--log-level", "error"];
    t.finish(&[&plugin[..], &["--set", "key=app", "--set", url], flags].concat())
}

/// Runs the host until it has read a URL once.
fn url_once(t: &TestHost, url: &str, flags: &[&str]) -> Finished {
    let plugin = ["run", "--plugin", "http", "--once", "--format", "raw", "--log-level", "error"];
    let url = format!("url={url}");
    t.finish(&[&plugin[..], &["--set", &url], flags].concat())
}

/// Asserts exit status 1 and a one-line error, and returns the error.
fn error_line(finished: &Finished) -> &str {
    let (status, error) = finished.status_and_error();
    assert_eq!(status, Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn watch_key(t: &TestHost, url: &str, flags: &[&str]) -> Running {
    let plugin = ["run", "--plugin", "kvs", "--interval", "1h", "--set", "key=app", "--set", url];
    t.run(&[&plugin[..], flags].concat())
}

/// Waits until the host's watch is live.
fn wait_for_watch(redis: &Redis) {
    wait_until("a client that is tracking", || {
        redis.cli(&["CLIENT", "LIST"]).lines().any(|client| client.contains("flags=tB"))
    });
}

#[test]
fn redis_over_tls_is_watched() {
    let ca = Authority::new("ca");
    let Some(redis) = Redis::start_secure(&ca.server(&["localhost"]), None) else { return };
    let t = host(&ca, None);
    redis.set("app", "1");
    let mut run = watch_key(&t, &redis.secure_url("localhost"), &CA_FLAGS);
    run.wait_for_value("1");
    wait_for_watch(&redis);
    for number in 2..6 {
        redis.set("app", &number.to_string());
        run.wait_for_value(&number.to_string());
    }
}

#[test]
fn redis_client_certificate_is_presented() {
    let (ca, clients) = (Authority::new("ca"), Authority::new("clients"));
    let server = ca.server(&["127.0.0.1"]);
    let Some(redis) = Redis::start_secure(&server, Some(&clients)) else { return };
    let t = host(&ca, Some(&clients.client("reader")));
    let url = redis.secure_url("127.0.0.1");
    redis.set("app", "1");
    let mut run = watch_key(&t, &url, &[&CA_FLAGS[..], &CLIENT_FLAGS].concat());
    run.wait_for_value("1");
    wait_for_watch(&redis);
    redis.set("app", "2");
    run.wait_for_value("2");

    let without = key_once(&t, &url, &CA_FLAGS);
    assert!(error_line(&without).contains("`--tls-cert FILE` and `--tls-key FILE`"), "{without:?}");
    let untrusted = host(&ca, Some(&Authority::new("others").client("untrusted")));
    let untrusted = key_once(&untrusted, &url, &[&CA_FLAGS[..], &CLIENT_FLAGS].concat());
    assert!(error_line(&untrusted).contains("`client.pem` (`--tls-cert`)"), "{untrusted:?}");
}

#[test]
fn private_ca_works_with_http2_and_compression() {
    let ca = Authority::new("ca");
    let Some(nginx) = Nginx::start_secure(&ca.server(&["127.0.0.1"]), None) else { return };
    let t = host(&ca, None);
    let value = format!("{{\"a\":\"{}\"}}", "b".repeat(10_000));
    nginx.put("app.json", &value);
    let run = url_once(&t, &nginx.url("/app.json"), &CA_FLAGS);
    assert!(run.text() == value, "{}", run.stderr);
    let arrivals = nginx.arrivals();
    assert!(arrivals.last().is_some_and(|last| last.contains("HTTP/2.0 gzip")), "{arrivals:?}");
}

#[test]
fn system_roots_are_trusted_by_default() {
    let ca = Authority::new("ca");
    let Some(nginx) = Nginx::start_secure(&ca.server(&["localhost"]), None) else { return };
    let t = host(&ca, None);
    t.write("other.pem", Authority::new("other").pem());
    nginx.put("app.txt", "a");
    let url = format!("url={}", nginx.url_at("localhost", "/app.txt"));
    let run = ["run", "--plugin", "http", "--set", &url];
    let trusting = |flags: &[&str]| {
        t.run_with("SSL_CERT_FILE", &t.path("ca.pem"), &[&run[..], flags].concat())
    };
    trusting(&[]).wait_for_value("a");
    // A private authority replaces the system's trusted roots.
    trusting(&["--tls-ca", "other.pem"]).wait_for_log("not issued by an authority in `other.pem`");
}

#[test]
fn server_sent_events_work_over_http2() {
    let ca = Authority::new("ca");
    let Some(nginx) = Nginx::start_secure(&ca.server(&["localhost"]), None) else { return };
    let t = host(&ca, None);
    nginx.put("app.json", "0");
    let url = format!("url={}", nginx.url_at("localhost", "/app.json"));
    let events = format!("watch_url={}", nginx.url_at("localhost", "/events"));
    let plugin = ["run", "--plugin", "http", "--interval", "1h", "--set", &url, "--set", &events];
    let mut run = t.run(&[&plugin[..], &["--set", "watch=sse"], &CA_FLAGS].concat());
    run.wait_for_value("0");
    for number in 1..5 {
        nginx.put("app.json", &number.to_string());
        wait_until("a subscriber at `/events`", || nginx.publish("changed") > 0);
        run.wait_for_value(&number.to_string());
    }
}

#[test]
fn http_client_certificate_is_presented() {
    let (ca, clients) = (Authority::new("ca"), Authority::new("clients"));
    let server = ca.server(&["localhost"]);
    let Some(nginx) = Nginx::start_secure(&server, Some(&clients)) else { return };
    nginx.put("app.txt", "a");
    let t = host(&ca, Some(&clients.client("reader")));
    let url = nginx.url_at("localhost", "/app.txt");
    let run = url_once(&t, &url, &[&CA_FLAGS[..], &CLIENT_FLAGS].concat());
    assert_eq!(run.text(), "a", "{run:?}");
    let arrivals = nginx.arrivals();
    assert!(arrivals.last().is_some_and(|last| last.contains("CN=reader")), "{arrivals:?}");
    assert!(
        error_line(&url_once(&t, &url, &CA_FLAGS)).contains("400"),
        "nginx requires a client certificate"
    );
}

#[test]
fn connection_is_reused_until_certificate_changes() {
    let (ca, clients) = (Authority::new("ca"), Authority::new("clients"));
    let server = ca.server(&["localhost"]);
    let Some(nginx) = Nginx::start_secure(&server, Some(&clients)) else { return };
    nginx.put("app.txt", "a");
    let t = host(&ca, Some(&clients.client("first")));
    let url = format!("url={}", nginx.url_at("localhost", "/app.txt"));
    let plugin = ["run", "--plugin", "http", "--interval", "20ms", "--set", &url];
    let mut run = t.run(&[&plugin[..], &CA_FLAGS, &CLIENT_FLAGS].concat());
    run.wait_for_value("a");
    wait_until("more than 10 requests", || nginx.arrivals().len() > 10);
    let by = |name: &str| {
        let name = format!("CN={name}");
        let mut arrivals = nginx.arrivals();
        arrivals.retain(|line| line.contains(&name));
        let connections = arrivals.iter().filter_map(|line| line.split(' ').next());
        let connections: std::collections::BTreeSet<_> = connections.map(str::to_owned).collect();
        (arrivals.len(), connections.len())
    };
    assert_eq!(by("first").1, 1, "one connection for all requests: {:?}", nginx.arrivals());
    // Replace the key first: the old pair stays in use until the certificate matches.
    let second = clients.client("second");
    t.replace("client.key", &second.key);
    run.wait_for_log("the key does not match the certificate in `client.pem`");
    let before = by("first").0;
    wait_until("requests with the old certificate", || by("first").0 > before + 3);
    t.replace("client.pem", &second.certificate);
    wait_until("requests with the new certificate", || by("second").0 > 3);
    assert_eq!(by("second").1, 1, "{:?}", nginx.arrivals());
    nginx.put("app.txt", "b");
    run.wait_for_value("b");
}

#[test]
fn rotated_certificates_need_no_restart() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = old.server(&["localhost"]);
    let Some(redis) = Redis::start_secure(&server, Some(&old)) else { return };
    let t = host(&old, Some(&old.client("reader")));
    redis.set("app", "1");
    let mut run =
        watch_key(&t, &redis.secure_url("localhost"), &[&CA_FLAGS[..], &CLIENT_FLAGS].concat());
    run.wait_for_value("1");
    wait_for_watch(&redis);
    redis.set_identity(&new.server(&["localhost"]), Some(&new));
    run.wait_for_log("not issued by an authority in `ca.pem` (`--tls-ca`)");
    let client = new.client("reader");
    t.replace("ca.pem", new.pem());
    t.replace("client.pem", &client.certificate);
    t.replace("client.key", &client.key);
    redis.set("app", "2");
    run.wait_for_value("2");
}

#[test]
fn invalid_server_certificate_is_explained() {
    let ca = Authority::new("ca");
    let t = host(&ca, None);
    let Some(nginx) = Nginx::start_secure(&ca.server(&["db.example", "10.0.0.7"]), None) else {
        return;
    };
    nginx.put("app.txt", "a");
    let (url, by_name) = (nginx.url("/app.txt"), nginx.url_at("localhost", "/app.txt"));
    let unknown = url_once(&t, &url, &[]);
    assert!(error_line(&unknown).contains("`--tls-ca FILE`"), "{unknown:?}");
    let other = host(&Authority::new("other"), None);
    let other = url_once(&other, &url, &CA_FLAGS);
    assert!(error_line(&other).contains("not issued by an authority in `ca.pem`"), "{other:?}");
    let wrong = url_once(&t, &by_name, &CA_FLAGS);
    let names = "certificate is for `db.example`, `10.0.0.7`, not for `localhost`; hint: set `--tls-server-name";
    assert!(error_line(&wrong).contains(names), "{wrong:?}");
    let finished =
        url_once(&t, &by_name, &[&CA_FLAGS[..], &["--tls-server-name", "db.example"]].concat());
    assert_eq!(finished.text(), "a", "{finished:?}");

    let Some(nginx) = Nginx::start_secure(&ca.expired(&["localhost"]), None) else { return };
    let expired = url_once(&t, &nginx.url_at("localhost", "/"), &CA_FLAGS);
    let until = "the server certificate expired on 2024-01-01T00:00:00Z";
    assert!(error_line(&expired).contains(until), "{expired:?}");
}

#[test]
fn plaintext_server_is_detected() {
    let (Some(redis), Some(nginx)) = (Redis::start(), Nginx::start()) else { return };
    let t = TestHost::new();
    // Redis takes the TLS handshake for an incomplete line and does not answer; nginx answers with an HTTP error.
    let url = format!("url=rediss://127.0.0.1:{}", redis.port());
    let redis = key_once(&t, &url, &["--set", "timeout=1"]);
    assert!(error_line(&redis).contains("speak TLS on this port?"), "{redis:?}");
    let nginx = url_once(&t, &nginx.url("/").replace("http:", "https:"), &[]);
    assert!(error_line(&nginx).contains("speak TLS on this port?"), "{nginx:?}");
}

/// Asserts that the host exits with status 2 and this error if it is started with these flags. The
/// directory contains an authority, the certificate and key `one`, the key `two`, and invalid files.
fn assert_flags_rejected(flags: &[&str], expected: &str) {
    let (ca, t) = (Authority::new("ca"), TestHost::new());
    let (one, two) = (ca.client("one"), ca.client("two"));
    t.write("ca.pem", ca.pem());
    t.write("one.pem", &one.certificate);
    t.write("one.key", &one.key);
    t.write("two.key", &two.key);
    t.write("empty.pem", "nothing");
    t.write("broken.pem", "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n");
    let run = url_once(&t, "https://localhost:1/", flags);
    let (status, error) = run.status_and_error();
    assert_eq!(status, Some(2), "{error}");
    assert!(error.starts_with(&format!("error: {expected}")), "{error}");
}

e2e::cases! {
    mod invalid_tls_file_is_rejected: assert_flags_rejected {
        missing_file(
            &["--tls-ca", "none.pem"],
            "`none.pem` (`--tls-ca`): No such file or directory (os error 2)",
        );
        file_without_certificate(
            &["--tls-ca", "empty.pem"],
            "`empty.pem` (`--tls-ca`): no certificate in PEM format found",
        );
        invalid_certificate(&["--tls-ca", "broken.pem"], "`broken.pem` (`--tls-ca`): ");
        directory(&["--tls-ca", "."], "`.` (`--tls-ca`): not a regular file");
        key_of_other_certificate(
            &["--tls-cert", "one.pem", "--tls-key", "two.key"],
            "`two.key` (`--tls-key`): the key does not match the certificate in `one.pem`",
        );
        file_without_key(
            &["--tls-cert", "one.pem", "--tls-key", "ca.pem"],
            "`ca.pem` (`--tls-key`): no private key in PEM format found",
        );
        invalid_server_name(
            &["--tls-server-name", "a b"],
            "`a b` (`--tls-server-name`) is not a host name or an IP address",
        );
    }
}

#[test]
fn certificate_without_key_is_rejected() {
    let alone = url_once(&TestHost::new(), "https://localhost:1/", &["--tls-cert", "one.pem"]);
    assert_eq!(alone.status, Some(2), "{alone:?}");
    assert!(alone.stderr.contains("--tls-key"), "{alone:?}");
}
