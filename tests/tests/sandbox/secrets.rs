//! Secrets: references, redaction, rotation, and credentials that the host adds to requests.

use e2e::{Redis, TestHost, guest};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
    thread,
};

/// Returns the setting that selects an attack of the guest.
fn attack_setting(attack: &str) -> String {
    format!("attack={attack}")
}

/// Starts a server that answers `/moved` with a redirect to another origin, and other requests with
/// `ok`. Returns its origin and a receiver of the request heads.
fn server() -> (String, Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<_> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let answer = if head.iter().any(|line| line.starts_with("GET /moved")) {
                // Redirect to another origin: the same server with another host name.
                let port = stream.local_addr().unwrap().port();
                format!(
                    "HTTP/1.1 302 Found\r\nlocation: http://localhost:{port}/\r\n\
                     content-length: 0\r\nconnection: close\r\n\r\n"
                )
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".into()
            };
            if sender.send(head).is_err() || (&stream).write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    (origin, requests)
}

/// Asserts that the host authenticates at a Redis server with this URL and these settings. `PORT` in
/// the URL is replaced by the port of the server.
fn assert_authenticates(url: &str, settings: &[&str]) {
    let t = TestHost::new();
    let Some(redis) = Redis::start_with(&["--requirepass", "p@ss/word"]) else { return };
    redis.set("app", "1");
    t.write("password", "p@ss/word\n");
    let url = format!("url={}", url.replace("PORT", &redis.port().to_string()));
    let arguments = ["run", "--plugin", "kvs", "--once", "--format", "raw", "--set", &url];
    let mut arguments = [&arguments[..], &["--set", "key=app"]].concat();
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let run = t.finish_with("PW", "p@ss/word", &arguments);
    assert_eq!(run.text(), "1", "{}", run.stderr);
}

e2e::cases! {
    mod secret_reference_is_resolved: assert_authenticates {
        environment_variable("redis://127.0.0.1:PORT", &["password=${env:PW}"]);
        file("redis://127.0.0.1:PORT", &["password=${file:password}"]);
        /// In a URL, special characters of the secret are escaped.
        part_of_url("redis://:${env:PW}@127.0.0.1:PORT", &[]);
    }
}

fn assert_reference_rejected(password: &str, expected: &str) {
    let password = format!("password={password}");
    let settings = ["--set", "url=redis://127.0.0.1:1", "--set", "key=a", "--set", &password];
    let run = TestHost::new().finish(&[&["run", "--plugin", "kvs"], &settings[..]].concat());
    let (status, line) = run.status_and_error();
    assert_eq!(status, Some(2), "{line}");
    assert!(line.contains(expected), "{line}");
}

e2e::cases! {
    mod missing_secret_is_named: assert_reference_rejected {
        variable(
            "${env:NOT_THERE}",
            "setting `password`: ${env:NOT_THERE}: environment variable `NOT_THERE` is not set",
        );
        file("${file:nowhere}", "setting `password`: ${file:nowhere}: `nowhere` cannot be read");
        kind("${evn:PW}", "setting `password`: expected `${env:NAME}` or `${file:PATH}`");
    }
}

fn assert_redacted(attack: &str, status: i32) {
    let plugin = guest("attacker").display().to_string();
    let arguments = ["run", "--plugin", &plugin, "--once", "--set", &attack_setting(attack)];
    let run = TestHost::new().finish_with(
        "PW",
        "s3cr3t-of-mine",
        &[&arguments[..], &["--set", "secret=${env:PW}"]].concat(),
    );
    assert_eq!(run.status, Some(status), "{}", run.stderr);
    assert!(run.stderr.contains("***"), "{}", run.stderr);
    assert!(!run.stderr.contains("s3cr3t"), "{}", run.stderr);
}

e2e::cases! {
    mod leaked_secret_is_redacted: assert_redacted {
        in_failure("secret-in-failure", 1);
        in_log("secret-in-log", 0);
        in_panic("secret-in-panic", 1);
    }
}

#[test]
fn schema_default_resolves_no_secret() {
    let t = TestHost::new();
    let plugin = guest("attacker").display().to_string();
    let run = t.finish_with(
        "PW",
        "s3cr3t",
        &[
            "run",
            "--plugin",
            &plugin,
            "--once",
            "--format",
            "raw",
            "--set",
            &attack_setting("echo-default"),
        ],
    );
    assert_eq!(run.text(), "${env:PW}", "{}", run.stderr);
}

#[test]
fn rotated_password_is_used_without_restart() {
    let t = TestHost::new();
    let Some(redis) = Redis::start_with(&["--requirepass", "first"]) else { return };
    redis.set("app", "1");
    t.write("password", "first");
    let url = redis.url();
    let mut host = t.run(&[
        "run",
        "--plugin",
        "kvs",
        "--set",
        &url,
        "--set",
        "key=app",
        "--set",
        "password=${file:password}",
        "--interval",
        "100ms",
    ]);
    host.wait_for_value("1");
    // Change the password on the server, close the connections with the old one, then replace the
    // file.
    redis.cli(&["CONFIG", "SET", "requirepass", "second"]);
    redis.cli_as("second", &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    t.replace("password", "second");
    redis.cli_as("second", &["SET", "app", "2"]);
    host.wait_for_value("2");
    assert!(host.stderr().contains("secret changed"), "{}", host.stderr());
    // If the file is missing, the last secret stays in use and the failure is logged.
    std::fs::remove_file(t.path("password")).unwrap();
    host.wait_for_log("secret refresh failed, keeping the previous secret");
    redis.cli_as("second", &["SET", "app", "3"]);
    host.wait_for_value("3");
    assert!(!host.stderr().contains("second"), "{}", host.stderr());
}

#[test]
fn credential_is_sent_only_to_origin() {
    let t = TestHost::new();
    let (origin, requests) = server();
    let port = origin.rsplit(':').next().unwrap().to_owned();
    let run = t.finish_with(
        "TOKEN",
        "t0ken-of-mine",
        &[
            "run",
            "--plugin",
            "http",
            "--once",
            "--format",
            "raw",
            "--set",
            &format!("url={origin}/moved"),
            "--allow-http",
            &format!("http://localhost:{port}"),
            "--credential",
            &format!("{origin}=bearer:${{env:TOKEN}}"),
        ],
    );
    assert_eq!(run.text(), "ok", "{}", run.stderr);
    let there = requests.recv().unwrap();
    assert!(there.contains(&"authorization: Bearer t0ken-of-mine".into()), "{there:?}");
    let elsewhere = requests.recv().unwrap();
    assert!(!elsewhere.join("\n").contains("t0ken"), "{elsewhere:?}");
}

#[test]
fn invalid_credential_is_not_echoed() {
    let t = TestHost::new();
    let wrong = ["--credential", "https://a.org=token:s3cr3t"];
    let run =
        t.finish(&[&["run", "--plugin", "http", "--set", "url=http://h"], &wrong[..]].concat());
    let (status, line) = run.status_and_error();
    assert_eq!(status, Some(2));
    assert!(line.contains("expected ORIGIN=bearer:TOKEN") && !line.contains("s3cr3t"), "{line}");
}

#[test]
fn conflicting_credentials_are_rejected() {
    let t = TestHost::new();
    let [one, other] = ["http://h=bearer:s3cr3t", "http://h=basic:me:s3cr3t"];
    let arguments = ["run", "--plugin", "http", "--set", "url=http://h"];
    let both = ["--credential", one, "--credential", other];
    let run = t.finish(&[&arguments[..], &both[..]].concat());
    let (status, line) = run.status_and_error();
    assert_eq!(status, Some(2));
    let expected = "for http://h:80: another credential already sets the header `authorization`";
    assert!(line.contains(expected) && !line.contains("s3cr3t"), "{line}");
}

/// References to secrets also work in settings that are not strings.
#[test]
fn number_setting_accepts_reference() {
    let t = TestHost::new();
    let settings = |count: &str| {
        let arguments = ["inspect", "kvs", "--set", "url=redis://h", "--set", "key=a"];
        t.finish_with(
            "COUNT",
            count,
            &[&arguments[..], &["--set", "keepalive=${env:COUNT}"]].concat(),
        )
    };
    assert_eq!(settings("17").status, Some(0));
    let run = settings("many");
    let (status, line) = run.status_and_error();
    assert_eq!(status, Some(2));
    assert!(line.contains("setting `keepalive`: expected an integer"), "{line}");
}

#[test]
fn inspect_redacts_secrets() {
    let t = TestHost::new();
    let run = t.finish_with(
        "PW",
        "s3cr3t",
        &[
            "inspect",
            "kvs",
            "--set",
            "url=redis://me:${env:PW}@localhost",
            "--set",
            "password=${env:PW}",
            "--set",
            "key=a",
        ],
    );
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert!(!run.text().contains("s3cr3t"), "{}", run.text());
    assert!(run.text().contains("connect to `localhost:6379`"), "{}", run.text());
}
