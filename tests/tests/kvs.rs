//! `host run --plugin kvs`: a value in a real Redis.

use e2e::{Redis, Running, TestHost, wait_until};
use serde_json::json;

/// A host that keeps a key (or what else the settings name) up to date, by events alone.
fn run(t: &TestHost, redis: &Redis, settings: &[&str]) -> Running {
    let url = redis.url();
    let mut arguments = vec!["run", "--plugin", "kvs", "--interval", "1h", "--set", &url];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    t.run(&arguments)
}

/// Waits until the host's watch is in place, so that what follows reaches it as an event.
fn wait_for_watch(redis: &Redis) {
    wait_until("a client that is tracking", || {
        redis.cli(&["CLIENT", "LIST"]).lines().any(|client| client.contains("flags=tB"))
    });
}

#[test]
fn each_set_is_printed() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    redis.set("app", "1");
    let mut run = run(&t, &redis, &["key=app"]);
    run.wait_for_value("1");
    wait_for_watch(&redis);
    for number in 2..10 {
        redis.set("app", &number.to_string());
        run.wait_for_value(&number.to_string());
    }
}

#[test]
fn a_key_that_does_not_exist_yet_is_waited_for_and_its_neighbours_are_not_it() {
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
fn del_and_expiry_and_flushall_remove_it() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    redis.set("app", "1");
    let mut run = run(&t, &redis, &["key=app"]);
    run.wait_for_value("1");
    wait_for_watch(&redis);
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
fn a_hash_is_one_object() {
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
fn all_keys_with_a_prefix_are_one_object() {
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
fn a_password_is_used_and_never_shown() {
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
fn a_user_with_few_permissions_is_enough() {
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
fn a_database_of_its_own() {
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
fn a_client_that_is_kicked_comes_back_and_misses_nothing() {
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
fn the_final_value_survives_a_restart_of_the_server() {
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
fn a_server_that_is_away_makes_the_value_stale_and_one_that_is_back_fresh() {
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
    assert_eq!(run.wait_for_event("fresh")["revision"], 1, "nothing was removed meanwhile");
}

#[test]
fn without_tracking_keyspace_notifications_serve() {
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
fn without_tracking_and_notifications_it_says_what_to_set_and_polls() {
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
fn what_is_of_another_type_is_named_with_what_to_use_instead() {
    let Some(redis) = Redis::start() else { return };
    let t = TestHost::new();
    redis.cli(&["HSET", "app", "a", "1"]);
    let url = redis.url();
    let run = t.finish(&["run", "--plugin", "kvs", "--once", "--set", &url, "--set", "key=app"]);
    let (status, complaint) = run.complaint();
    assert_eq!(status, Some(1));
    assert!(complaint.contains("`hash`"), "{complaint}");
}

#[test]
fn exactly_one_of_key_hash_and_prefix_is_a_matter_of_settings() {
    let t = TestHost::new();
    for settings in [&[][..], &["--set", "key=a", "--set", "hash=b"][..]] {
        let arguments = [&["run", "--plugin", "kvs", "--set", "url=redis://h"], settings].concat();
        let run = t.finish(&arguments);
        assert_eq!(run.status, Some(2), "{run:?}");
        assert!(run.stderr.contains("`prefix`"), "{run:?}");
    }
}
