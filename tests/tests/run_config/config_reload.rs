//! Reloads of the configuration and of plugins while the host runs.

use crate::config_text_helpers::{source, to_file};
use e2e::{Authority, TestHost, wait_until};
use std::{fs, net::TcpListener};

fn text(t: &TestHost, name: &str) -> String {
    fs::read_to_string(t.path(name)).unwrap_or_default()
}

#[test]
fn reload_restarts_only_differences() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("b.in", "1");
    let exec =
        "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"echo run >> runs\"]\n";
    let a = source("a", exec);
    t.write("reloader.toml", a.clone() + &source("b", &to_file("b.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("b.out", "1");
    t.wait_for_file("runs", "run\n");
    t.write("c.in", "1");
    t.replace(
        "reloader.toml",
        a + &source("b", &to_file("b2.out")) + &source("c", &to_file("c.out")),
    );
    host.hang_up();
    t.wait_for_file("b2.out", "1");
    t.wait_for_file("c.out", "1");
    t.replace("b.in", "2");
    t.wait_for_file("b2.out", "2");
    assert_eq!(text(&t, "b.out"), "1", "the removed sink still writes");
    assert_eq!(text(&t, "runs"), "run\n", "`a` was restarted");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn invalid_configuration_is_rejected() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let config = source("a", &to_file("a.out"));
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    t.replace("reloader.toml", format!("{config}[[source.sink]]\ntyp = \"file\"\n"));
    host.wait_for_log("configuration reload failed");
    t.replace("reloader.toml", "");
    host.wait_for_log("no `[[source]]` table");
    t.replace("a.in", "2");
    t.wait_for_file("a.out", "2");
    t.replace("reloader.toml", format!("{config}{}", to_file("a2.out")));
    t.wait_for_file("a2.out", "2");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// New settings of a source are rolled back if the source cannot be read with them. Working ones replace the previous
/// settings, and the revisions continue.
#[test]
fn failed_settings_change_is_rolled_back() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("other.in", "other");
    let config = source("a", &to_file("a.out"));
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    t.replace("reloader.toml", config.replace("a.in", "."));
    host.wait_for_log("source update failed");
    t.replace("a.in", "2");
    t.wait_for_file("a.out", "2");
    t.replace("reloader.toml", config.replace("a.in", "other.in"));
    t.wait_for_file("a.out", "other");
    let history = t.finish(&["history", "a", "--json"]);
    let history: serde_json::Value = serde_json::from_slice(&history.stdout).unwrap();
    assert_eq!(history[0]["revision"], 3, "revisions continue: {history}");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn changed_plugin_is_replaced_unless_broken() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let exported = t.finish(&["plugins", "export", "file", "--output", "mine.wasm"]);
    assert_eq!(exported.status, Some(0), "{}", exported.stderr);
    let config =
        source("a", &to_file("a.out")).replace("\"file\"\nconfig", "\"./mine.wasm\"\nconfig");
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    let good = fs::read(t.path("mine.wasm")).unwrap();
    t.replace("mine.wasm", b"not a component");
    host.wait_for_log("source update failed");
    t.replace("a.in", "2");
    t.wait_for_file("a.out", "2");
    // An additional custom section changes the digest of the component, but not its behaviour.
    t.replace("mine.wasm", e2e::with_section(good, "note", b"new"));
    host.wait_for_log("source plugin replaced");
    t.replace("a.in", "3");
    t.wait_for_file("a.out", "3");
    wait_until("the log of the new digest", || host.stderr().contains("sha256"));
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// While the host tries new settings with a server that does not answer, the running source, the API
/// and the shutdown are not blocked.
#[test]
fn unresponsive_trial_blocks_nothing() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    t.write("reloader.toml", source("a", &to_file("a.out")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    let tried = format!(
        "[[source]]\nname = \"a\"\nplugin = \"http\"\n\
         config = {{ url = \"{url}\", timeout = 3600, deadline = 3600 }}\n\
         limits.call-timeout = \"1h\"\n{}",
        to_file("a.out")
    );
    t.replace("reloader.toml", tried);
    let _asked = silent.accept().unwrap();
    t.replace("a.in", "2");
    t.wait_for_file("a.out", "2");
    let history = t.finish(&["history", "a"]);
    assert_eq!(history.status, Some(0), "{history:?}");
    // The shutdown must not wait for the request of the trial, whose timeout is one hour.
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn ended_source_restarts_with_valid_settings() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let other = source("b", "");
    let config = source("a", &to_file("a.out")) + &other;
    let impossible = "plugin = \"kvs\"\nconfig = { url = \"redis://127.0.0.1:1\" }\n";
    let impossible = format!("[[source]]\nname = \"a\"\n{impossible}{}{other}", to_file("a.out"));
    t.write("reloader.toml", impossible);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("source ended source=a error=set exactly one of");
    t.replace("reloader.toml", config);
    t.wait_for_file("a.out", "1");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// A change of a setting that only the host uses, such as `required`, applies immediately, without a trial read of the
/// source. Here the source cannot be read.
#[test]
fn host_settings_apply_without_trial() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let dead = "[[source]]\nname = \"dead\"\nplugin = \"kvs\"\n\
                config = { url = \"redis://127.0.0.1:1\", key = \"x\" }\n";
    let rest = "[command]\ncommand = [\"sh\", \"-c\", \"touch started; exec sleep 3600\"]\n";
    let config = format!("{dead}{}{rest}", source("a", &to_file("a.out")));
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    assert!(!t.path("started").exists(), "the command waits for `dead`");
    t.replace("reloader.toml", config.replace("\"kvs\"\n", "\"kvs\"\nrequired = false\n"));
    t.wait_for_file("started", "");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

#[test]
fn added_command_does_not_rerun_others() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let exec = |file: &str| {
        format!(
            "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"echo run >> {file}\"]\n"
        )
    };
    t.write("reloader.toml", source("a", &exec("old")));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("old", "run\n");
    t.replace("reloader.toml", source("a", &(exec("new") + &exec("old"))));
    t.wait_for_file("new", "run\n");
    host.wait_for_log("configuration reloaded");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
    assert_eq!(text(&t, "old"), "run\n");
}

/// After a reload has removed the last sink of a source, a new value of the source still signals the `[command]`.
#[test]
fn command_is_notified_after_sink_removal() {
    let t = TestHost::new();
    t.write("a.in", "1");
    let command = "[command]\nsignal = \"SIGHUP\"\ncommand = [\"sh\", \"-c\", \"\
                   trap 'touch notified' HUP; touch ready; while :; do sleep 0.01; done\"]\n";
    t.write("reloader.toml", source("a", &to_file("a.out")) + command);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the program runs", || t.path("ready").exists());
    t.replace("reloader.toml", source("a", "") + command);
    host.wait_for_log("configuration reloaded");
    assert!(!t.path("notified").exists(), "{}", host.stderr());
    t.replace("a.in", "2");
    wait_until("the command is notified", || t.path("notified").exists());
    host.stop();
}

/// A reload reads the certificate file of a source only if the source has changed: an invalid file does not fail a
/// reload that changes another source.
#[test]
fn reload_prepares_only_changed_sources() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("ca.pem", Authority::new("ca").pem());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let with_tls = format!(
        "[[source]]\nname = \"b\"\nplugin = \"http\"\nconfig.url = \"https://127.0.0.1:{port}/\"\n\
         tls.ca = \"ca.pem\"\nrequired = false\n"
    );
    let config = with_tls.clone() + &source("a", &to_file("a.out"));
    t.write("reloader.toml", &config);
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    t.wait_for_file("a.out", "1");
    t.replace("ca.pem", "no certificate");
    t.replace("reloader.toml", config.replace("a.out", "a2.out"));
    t.wait_for_file("a2.out", "1");
    t.replace("reloader.toml", config.replace("required = false", "interval = \"7s\""));
    host.wait_for_log("configuration reload failed");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// Sink of the source `b` whose delivery lasts until the file `release` exists.
const SLOW_SINK: &str = "[[source.sink]]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \
                         \"touch started; while [ ! -e release ]; do sleep 0.02; done\"]\n";

/// A newer configuration file cancels the running reload. If the host rejects the newer file, it completes the
/// cancelled reload.
#[test]
fn cancelled_reload_is_finished_after_rejection() {
    let t = TestHost::new();
    for name in ["a.in", "b.in", "c.in"] {
        t.write(name, "1");
    }
    let a = source("a", &to_file("a.out"));
    t.write("reloader.toml", a.clone() + &source("b", SLOW_SINK));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    wait_until("the sink of `b` runs", || t.path("started").exists());
    let accepted = a + &source("c", &to_file("c.out"));
    t.replace("reloader.toml", &accepted);
    host.wait_for_log("source removed");
    t.replace("reloader.toml", accepted + "[[source.sink]]\ntyp = \"file\"\n");
    host.wait_for_log("configuration reload failed");
    t.wait_for_file("c.out", "1");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}

/// A reload removes the source `b`, whose delivery delays the stop, and gives the ended source `a` valid settings.
/// Until `b` has stopped, the ended source is the only remaining one. A host whose sources have all ended exits, but
/// not during such a reload.
#[test]
fn reload_replaces_ended_source_and_removes_another() {
    let t = TestHost::new();
    t.write("a.in", "1");
    t.write("b.in", "1");
    let impossible = "[[source]]\nname = \"a\"\nplugin = \"kvs\"\nrequired = false\n\
                      config.url = \"redis://127.0.0.1:1\"\n";
    t.write("reloader.toml", impossible.to_owned() + &source("b", SLOW_SINK));
    let mut host = t.run(&["run", "--config", "reloader.toml"]);
    host.wait_for_log("source ended");
    wait_until("the sink of `b` runs", || t.path("started").exists());
    t.replace("reloader.toml", source("a", &to_file("a.out")));
    host.wait_for_log("source removed");
    t.write("release", "");
    t.wait_for_file("a.out", "1");
    assert_eq!(host.stop().code(), Some(0), "{}", host.stderr());
}
