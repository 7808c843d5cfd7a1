//! Helpers for the tests of all modules, and tests of the whole source.

use super::*;
use guest_sdk::{FailureKind, FakeHost, Script, Snapshot, Target};

/// Settings without `key`, `hash` and `prefix`.
pub(crate) fn settings() -> Settings {
    Settings {
        url: "redis://db".into(),
        key: None,
        hash: None,
        prefix: None,
        username: None,
        password: None,
        database: None,
        media_type: None,
        max_keys: 10_000,
        keepalive: 15,
        timeout: 5,
    }
}

pub(crate) fn key() -> Settings {
    Settings { key: Some("app".into()), ..settings() }
}

pub(crate) fn hash() -> Settings {
    Settings { hash: Some("app".into()), ..settings() }
}

pub(crate) fn prefix() -> Settings {
    Settings { prefix: Some("app:".into()), ..settings() }
}

/// Encodes a command whose arguments contain no spaces.
pub(crate) fn command(line: &str) -> Vec<u8> {
    resp::encode(&Vec::from_iter(line.split(' ')))
}

/// Returns the script of a server that replies to `GET app`.
pub(crate) fn get(reply: impl AsRef<[u8]>) -> Script {
    Script::new().expect(command("GET app")).reply(reply)
}

/// Reads once from a scripted server.
pub(crate) fn reload(settings: Settings, script: Script) -> Result<Outcome, Failure> {
    let fake = FakeHost::new();
    fake.next_connection(script);
    Kvs::new(settings, &fake.host())?.reload(None)
}

/// Starts a watch with one scripted server for each connection.
pub(crate) fn watch<const N: usize>(
    settings: Settings,
    scripts: [Script; N],
) -> Result<Kvs, Failure> {
    let fake = FakeHost::new();
    for script in scripts {
        fake.next_connection(script);
    }
    let mut source = Kvs::new(settings, &fake.host())?;
    source.watch(None)?;
    Ok(source)
}

/// Returns a value as an outcome or an event.
pub(crate) fn value<T: From<Snapshot>>(content: &str) -> T {
    Snapshot::new(content).into()
}

fn reply(settings: Settings) -> Failure {
    Kvs::new(settings, &FakeHost::new().host()).err().expect("invalid settings")
}

#[test]
fn exactly_one_query_is_required() {
    let both = Settings { hash: Some("app".into()), ..key() };
    for settings in [settings(), both] {
        let failure = reply(settings);
        assert_eq!(failure, Failure::config("set exactly one of `key`, `hash` and `prefix`"));
    }
}

#[test]
fn invalid_setting_is_named() {
    let cases = [
        (Settings { keepalive: 0, ..key() }, "`keepalive` must be 1 to 30"),
        (Settings { keepalive: 31, ..key() }, "`keepalive` must be 1 to 30"),
        (Settings { timeout: 11, ..key() }, "`timeout` must be 1 to 10"),
        (Settings { media_type: Some("text/plain".into()), ..hash() }, "`media_type`"),
        (Settings { url: "http://db".into(), ..key() }, "`url` must be"),
    ];
    for (settings, words) in cases {
        let failure = reply(settings);
        assert_eq!(failure.kind, FailureKind::Config);
        assert!(failure.message.starts_with(words), "{failure}");
    }
}

#[test]
fn rediss_url_connects_with_tls() {
    let fake = FakeHost::new();
    fake.next_connection(get("$-1\r\n"));
    let settings = Settings { url: "rediss://[::1]:7000".into(), ..key() };
    Kvs::new(settings, &fake.host()).unwrap().reload(None).unwrap();
    assert_eq!(fake.targets(), [Target { host: "::1".into(), port: 7000, tls: true }]);
}

#[test]
fn reloads_reuse_connection() {
    let fake = FakeHost::new();
    let script = get("$1\r\n1\r\n").expect(command("GET app")).reply("$1\r\n2\r\n");
    fake.next_connection(script);
    let mut source = Kvs::new(key(), &fake.host()).unwrap();
    assert_eq!(source.reload(None), Ok(value("1")));
    assert_eq!(source.reload(None), Ok(value("2")));
    assert_eq!(fake.targets().len(), 1);
}

/// The reload reconnects and reads again, without a failure.
#[test]
fn lost_connection_is_replaced_within_reload() {
    let read_once = get("$1\r\n1\r\n");
    let confused = get("$1\r\n1\r\n$7\r\nunasked\r\n");
    let closed = read_once.clone().expect(command("GET app"));
    let silent = closed.clone().silence();
    for (how, first) in [("closed", closed), ("silent", silent), ("confused", confused)] {
        let fake = FakeHost::new();
        fake.next_connection(first);
        fake.next_connection(get("$1\r\n2\r\n"));
        let mut source = Kvs::new(key(), &fake.host()).unwrap();
        assert_eq!(source.reload(None), Ok(value("1")));
        assert_eq!(source.reload(None), Ok(value("2")), "{how}");
        assert_eq!(fake.targets().len(), 2);
    }
}

#[test]
fn lost_new_connection_fails() {
    let transient = FailureKind::Transient { retry_after: None };
    let failure = reload(key(), Script::new().expect(command("GET app"))).unwrap_err();
    assert_eq!(failure.kind, transient);

    let unreachable = Kvs::new(key(), &FakeHost::new().host()).unwrap().reload(None).unwrap_err();
    assert_eq!(unreachable, Failure::transient("connection refused"));
}

#[test]
fn error_reply_keeps_connection() {
    let fake = FakeHost::new();
    let script = get("-LOADING Redis is loading the dataset in memory\r\n")
        .expect(command("GET app"))
        .reply("$1\r\n1\r\n");
    fake.next_connection(script);
    let mut source = Kvs::new(key(), &fake.host()).unwrap();
    assert!(source.reload(None).is_err());
    assert_eq!(source.reload(None), Ok(value("1")));
}

#[test]
fn missing_authentication_names_setting() {
    let failure = reload(key(), get("-NOAUTH Authentication required.\r\n")).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Denied);
    assert!(failure.message.contains("set `password`"), "{failure}");
}
