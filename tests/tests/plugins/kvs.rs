//! `host run --plugin kvs` against Redis.

use e2e::{Redis, Running, TestHost, wait_until};
use serde_json::json;

/// Starts a host with these settings. The polling interval is long, so that only events cause
/// reads.
fn run(t: &TestHost, redis: &Redis, settings: &[&str]) -> Running {
    let url = redis.url();
    let mut arguments = vec!["run", "--plugin", "kvs", "--interval", "1h", "--set", &url];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    t.run(&arguments)
}

/// Waits until the host's watch is live.
fn wait_for_watch(redis: &Redis) {
    wait_until("a client that is tracking", || {
        redis.cli(&["CLIENT", "LIST"]).lines().any(|client| client.contains("flags=tB"))
    });
}

/// Sets the key `app` to `1`, and starts a host that watches the key.
fn watch_app(t: &TestHost, redis: &Redis) -> Running {
    redis.set("app", "1");
    let mut run = run(t, redis, &["key=app"]);
    run.wait_for_value("1");
    wait_for_watch(redis);
    run
}

#[test]
fn each_set_is_reported() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    let mut run = watch_app(&t, &redis);
    for number in 2..10 {
        redis.set("app", &number.to_string());
        run.wait_for_value(&number.to_string());
    }
}

/// The host waits for the missing key `app`, and ignores the key `apple`.
#[test]
fn missing_key_is_waited_for() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    let mut run = run(&t, &redis, &["key=app"]);
    wait_for_watch(&redis);
    redis.set("apple", "no");
    redis.set("app", "yes");
    let line = run.event();
    assert_eq!((&line["content"], &line["revision"]), (&json!("yes"), &json!(1)));
}

#[test]
fn del_expiry_and_flushall_remove_value() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    let mut run = watch_app(&t, &redis);
    redis.cli(&["DEL", "app"]);
    assert_eq!(run.wait_for_event("removed")["revision"], 2);
    redis.cli(&["SET", "app", "2", "PX", "300"]);
    run.wait_for_value("2");
    assert_eq!(run.wait_for_event("removed")["revision"], 4);
    redis.set("app", "3");
    run.wait_for_value("3");
    redis.cli(&["FLUSHALL"]);
    run.wait_for_event("removed");
}

#[test]
fn hash_is_json_object() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    redis.cli(&["HSET", "app", "port", "80", "host", "a"]);
    let mut run = run(&t, &redis, &["hash=app"]);
    let line = run.event();
    assert_eq!(line["content"], r#"{"host":"a","port":"80"}"#);
    assert_eq!(line["media_type"], "application/json");
    wait_for_watch(&redis);
    redis.cli(&["HSET", "app", "port", "8080"]);
    run.wait_for_value(r#"{"host":"a","port":"8080"}"#);
    redis.cli(&["HDEL", "app", "host"]);
    run.wait_for_value(r#"{"port":"8080"}"#);
}

#[test]
fn prefix_is_json_object() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    redis.cli(&["MSET", "app:b", "2", "app:a", "1", "other", "x"]);
    let mut run = run(&t, &redis, &["prefix=app:"]);
    run.wait_for_value(r#"{"a":"1","b":"2"}"#);
    wait_for_watch(&redis);
    redis.set("app:c", "3");
    run.wait_for_value(r#"{"a":"1","b":"2","c":"3"}"#);
    redis.cli(&["DEL", "app:a"]);
    run.wait_for_value(r#"{"b":"2","c":"3"}"#);
}

#[test]
fn password_is_used_and_redacted() {
    let Some(redis) = Redis::start_with(&["--requirepass", "s3cr3t"]) else { return };
    let t = TestHost::new();
    redis.set("app", "1");
    let url = redis.url();
    let once = |more: &[&str]| {
        let mut arguments = vec!["run", "--plugin", "kvs", "--once", "--set", "key=app"];
        arguments.extend(more);
        arguments.extend(["--log-level", "trace"]);
        t.finish(&arguments)
    };
    let with = once(&["--set", &url, "--set", "password=s3cr3t"]);
    assert_eq!(with.status, Some(0), "{with:?}");
    assert!(with.text().contains(r#""content":"1""#));
    assert!(!with.stderr.contains("s3cr3t"), "{}", with.stderr);
    let in_url = format!("url=redis://:s3cr3t@127.0.0.1:{}", redis.port());
    assert_eq!(once(&["--set", &in_url]).status, Some(0));
    let wrong = once(&["--set", &url, "--set", "password=wr0ng"]);
    assert_eq!(wrong.status, Some(1));
    assert!(!wrong.stderr.contains("wr0ng"), "{}", wrong.stderr);
    let without = once(&["--set", &url]);
    assert_eq!(without.status, Some(1));
    assert!(without.stderr.contains("password"), "{}", without.stderr);
}

#[test]
fn minimal_acl_user_suffices() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    redis.cli(&[
        "ACL",
        "SETUSER",
        "reader",
        "on",
        ">pw",
        "~app",
        "-@all",
        "+get",
        "+hello",
        "+auth",
        "+client|tracking",
        "+ping",
    ]);
    redis.set("app", "1");
    let mut run = run(&t, &redis, &["key=app", "username=reader", "password=pw"]);
    run.wait_for_value("1");
    wait_for_watch(&redis);
    redis.set("app", "2");
    run.wait_for_value("2");
}

#[test]
fn numbered_database_is_selected() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    redis.cli(&["-n", "3", "SET", "app", "in 3"]);
    let mut run = run(&t, &redis, &["key=app", "database=3"]);
    run.wait_for_value("in 3");
    wait_for_watch(&redis);
    redis.cli(&["-n", "3", "SET", "app", "again in 3"]);
    run.wait_for_value("again in 3");
}

#[test]
fn killed_client_reconnects() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    redis.set("app", "0");
    let mut run = run(&t, &redis, &["key=app"]);
    run.wait_for_value("0");
    for number in 1..6 {
        wait_for_watch(&redis);
        redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        redis.set("app", &number.to_string());
        run.wait_for_value(&number.to_string());
    }
}

#[test]
fn final_value_survives_server_restart() {
    let Some(mut redis) = Redis::start() else { return };
    let t = TestHost::new();
    redis.set("app", "before");
    let mut run = run(&t, &redis, &["key=app"]);
    run.wait_for_value("before");
    redis.kill();
    run.wait_for_log("failed");
    redis.launch();
    redis.set("app", "after");
    let line = run.wait_for_value("after");
    assert!(line["revision"].as_u64() > Some(1));
    wait_for_watch(&redis);
    redis.set("app", "and on");
    run.wait_for_value("and on");
}

#[test]
fn server_outage_makes_value_stale() {
    let Some(mut redis) = Redis::start() else { return };
    let t = TestHost::new();
    redis.set("app", "1");
    redis.cli(&["SAVE"]);
    let url = redis.url();
    let mut run = t.run(&[
        "run",
        "--plugin",
        "kvs",
        "--set",
        &url,
        "--set",
        "key=app",
        "--stale-after",
        "300ms",
        "--interval",
        "100ms",
        "--strategy",
        "polling",
    ]);
    run.wait_for_value("1");
    redis.kill();
    let stale = run.wait_for_event("stale");
    assert_eq!(stale["revision"], 1);
    assert!(stale["reason"].as_str().unwrap().contains("refused"), "{stale}");
    redis.launch();
    assert_eq!(run.wait_for_event("fresh")["revision"], 1, "the outage removed no value");
}

#[test]
fn keyspace_notifications_replace_tracking() {
    let events = ["--notify-keyspace-events", "KEA", "--rename-command", "HELLO", ""];
    let Some(redis) = Redis::start_with(&events) else { return };
    let t = TestHost::new();
    redis.set("app", "1");
    let mut run = run(&t, &redis, &["key=app"]);
    run.wait_for_value("1");
    wait_until("a subscriber", || {
        redis.cli(&["PUBSUB", "NUMSUB", "__keyspace@0__:app"]).trim().ends_with('1')
    });
    redis.set("app", "2");
    run.wait_for_value("2");
    redis.cli(&["DEL", "app"]);
    run.wait_for_event("removed");
}

#[test]
fn no_notifications_falls_back_to_polling() {
    let Some(redis) = Redis::start_with(&["--rename-command", "HELLO", ""]) else { return };
    let t = TestHost::new();
    redis.set("app", "1");
    let url = redis.url();
    let mut run =
        t.run(&["run", "--plugin", "kvs", "--set", &url, "--set", "key=app", "--interval", "50ms"]);
    run.wait_for_value("1");
    run.wait_for_log("notify-keyspace-events");
    redis.set("app", "2");
    run.wait_for_value("2");
}

#[test]
fn wrong_key_type_is_explained() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    redis.cli(&["HSET", "app", "a", "1"]);
    let url = redis.url();
    let run = t.finish(&["run", "--plugin", "kvs", "--once", "--set", &url, "--set", "key=app"]);
    let (status, error) = run.status_and_error();
    assert_eq!(status, Some(1));
    assert!(error.contains("`hash`"), "{error}");
}

#[test]
fn key_hash_and_prefix_are_exclusive() {
    let t = TestHost::new();
    for settings in [&[][..], &["--set", "key=a", "--set", "hash=b"][..]] {
        let arguments = [&["run", "--plugin", "kvs", "--set", "url=redis://h"], settings].concat();
        let run = t.finish(&arguments);
        assert_eq!(run.status, Some(2), "{run:?}");
        assert!(run.stderr.contains("`prefix`"), "{run:?}");
    }
}
