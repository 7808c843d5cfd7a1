//! Sources on a file system that stops answering.

use e2e::{HungMount, TestHost, wait_until};
use serde_json::Value;
use std::fs;

fn source(name: &str, path: &str) -> String {
    format!(
        "[[source]]\nname = \"{name}\"\nplugin = \"file\"\nconfig.path = \"{path}\"\n\
         limits = {{ file-access = \"100ms\" }}\n\
         [[source.sink]]\ntype = \"file\"\npath = \"{name}.out\"\n"
    )
}

/// Returns the status of a source.
fn status(t: &TestHost, name: &str) -> Value {
    let finished = t.finish(&["status", "--json"]);
    let listed: Value = serde_json::from_slice(&finished.stdout).unwrap_or_default();
    let sources = listed["sources"].as_array().cloned().unwrap_or_default();
    sources.into_iter().find(|source| source["name"] == name).unwrap_or_default()
}

/// A watch of a file on a hung file system reports no change. The host does not count this as a success, so the source
/// becomes stale.
#[test]
fn hung_file_makes_its_source_stale() {
    let t = TestHost::new();
    fs::create_dir(t.path("mnt")).unwrap();
    t.write("mnt/a", "1");
    t.write("reloader.toml", source("a", "mnt/a"));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    let last_success = status(&t, "a")["last_success_at"].clone();
    let Some(mount) = HungMount::over(&t.path("mnt")) else { return };
    wait_until("the source is stale", || status(&t, "a")["state"] == "stale");
    let stale = status(&t, "a");
    let reason = stale["error"].to_string();
    assert!(reason.contains("the file system has not answered for 100ms"), "{stale}");
    assert!(reason.contains("limit `file-access`"), "{stale}");
    assert_eq!(stale["last_success_at"], last_success);
    drop(mount);
    t.write("mnt/a", "2");
    t.wait_for_file("a.out", "2");
    host.stop();
}

/// 600 sources hang, more than tokio has threads for blocking operations (512). Another source is still delivered.
#[test]
fn many_hung_sources_delay_nothing_else() {
    let t = TestHost::new();
    fs::create_dir(t.path("mnt")).unwrap();
    t.write("good", "1");
    let hung = (0..600).map(|number| source(&format!("hung{number}"), &format!("mnt/{number}")));
    t.write("reloader.toml", hung.collect::<String>() + &source("good", "good"));
    let Some(_mount) = HungMount::over(&t.path("mnt")) else { return };
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("good.out", "1");
    host.wait_for_log("the file system has not answered");
    for number in 2..20 {
        t.replace("good", number.to_string());
        t.wait_for_file("good.out", &number.to_string());
    }
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}
