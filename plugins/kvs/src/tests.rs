//! What the tests of all modules share, and those of the source as a whole.

use super::*;
use guest_sdk::{FailureKind, FakeHost, Script, Snapshot, Target};

/// Settings that name nothing to read yet.
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

/// The bytes of a command whose arguments have no spaces in them.
pub(crate) fn command(line: &str) -> Vec<u8> {
    resp::encode(&Vec::from_iter(line.split(' ')))
}

/// A server that is asked for the key `app`.
pub(crate) fn get(answer: impl AsRef<[u8]>) -> Script {
    Script::new().expect(command("GET app")).reply(answer)
}

/// Reads once from a server that says this.
pub(crate) fn reload(settings: Settings, script: Script) -> Result<Outcome, Failure> {
    let fake = FakeHost::new();
    fake.next_connection(script);
    Kvs::new(settings, &fake.host())?.reload(None)
}

/// Starts to watch at servers that say this, one a connection.
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

/// What the key `app` holds, as an outcome or an event.
pub(crate) fn value<T: From<Snapshot>>(content: &str) -> T {
    Snapshot::new(content).into()
}

fn reply(settings: Settings) -> Failure {
    Kvs::new(settings, &FakeHost::new().host()).err().expect("the settings are refused")
}

#[test]
fn exactly_one_thing_is_read() {
    let both = Settings { hash: Some("app".into()), ..key() };
    for settings in [settings(), both] {
        let failure = reply(settings);
        assert_eq!(failure, Failure::config("set exactly one of `key`, `hash` and `prefix`"));
    }
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
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
fn the_host_is_asked_for_the_server_in_the_url_and_for_tls() {
    let fake = FakeHost::new();
    fake.next_connection(get("$-1\r\n"));
    let settings = Settings { url: "rediss://[::1]:7000".into(), ..key() };
    Kvs::new(settings, &fake.host()).unwrap().reload(None).unwrap();
    assert_eq!(fake.targets(), [Target { host: "::1".into(), port: 7000, tls: true }]);
}

#[test]
fn the_connection_is_kept_from_one_reload_to_the_next() {
    let fake = FakeHost::new();
    let script = get("$1\r\n1\r\n").expect(command("GET app")).reply("$1\r\n2\r\n");
    fake.next_connection(script);
    let mut source = Kvs::new(key(), &fake.host()).unwrap();
    assert_eq!(source.reload(None), Ok(value("1")));
    assert_eq!(source.reload(None), Ok(value("2")));
    assert_eq!(fake.targets().len(), 1);
}

#[test]
fn a_kept_connection_that_is_of_no_more_use_is_replaced_within_the_same_reload() {
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
fn a_fresh_connection_that_dies_is_a_failure() {
    let transient = FailureKind::Transient { retry_after: None };
    let failure = reload(key(), Script::new().expect(command("GET app"))).unwrap_err();
    assert_eq!(failure.kind, transient);

    let nobody = Kvs::new(key(), &FakeHost::new().host()).unwrap().reload(None).unwrap_err();
    assert_eq!(nobody, Failure::transient("connection refused"));
}

#[test]
fn a_refused_request_keeps_the_connection() {
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
fn a_server_that_wants_a_password_says_which_setting_is_missing() {
    let failure = reload(key(), get("-NOAUTH Authentication required.\r\n")).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Denied);
    assert!(failure.message.contains("set `password`"), "{failure}");
}
