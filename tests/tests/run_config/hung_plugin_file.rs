//! A plugin file on a file system that does not answer while the host runs: the configuration file is still watched.

use crate::config_text_helpers::{source, to_file};
use e2e::{HungMount, TestHost, wait_until};
use std::fs;

#[test]
fn configuration_is_watched_beside_hung_plugin_file() {
    let t = TestHost::new();
    fs::create_dir(t.path("hung")).unwrap();
    t.write("a.in", "1");
    let exported = t.finish(&["plugins", "export", "file", "--output", "hung/mine.wasm"]);
    assert_eq!(exported.status, Some(0), "{}", exported.stderr);
    let config =
        source("a", &to_file("a.out")).replace("\"file\"\nconfig", "\"./hung/mine.wasm\"\nconfig");
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    let Some(_mount) = HungMount::over(&t.path("hung")) else { return };
    wait_until("the watch of the plugin is blocked", || {
        host.stderr().contains("change detection delayed")
    });
    let changes = || host.stderr().matches("configuration file changed").count();
    let rejections = || host.stderr().matches("configuration reload failed").count();
    for count in 1..=2 {
        t.replace("reloader.toml", format!("{config}# {count}\n"));
        wait_until("the change is seen", || changes() == count);
        // The reload reads the plugin file too, so it is rejected after the read times out.
        wait_until("the reload is rejected", || rejections() == count);
    }
    host.stop();
}
