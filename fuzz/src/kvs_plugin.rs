//! Fuzz target: the plugin `kvs` against a scripted Redis server.
//!
//! The input has the format of [`crate::server_script`]. The mode is a key (`k`), a hash (`h`)
//! or a prefix (`p`).

use crate::{
    memory_limit::with_memory_limit,
    server_script::{ServerScript, split_reads},
};
use guest_sdk::{Event, FakeHost, Outcome, RealtimeWatch, Reload, Script, Snapshot};
use kvs::{Kvs, Settings};

/// Maximum number of keys with one prefix: the setting `max_keys` of the plugin.
const MAX_KEYS: u32 = 8;
/// Maximum number of scripted server connections, and number of reloads.
const MAX_CONNECTIONS: usize = 4;
/// Maximum number of calls of [`RealtimeWatch::next`] on one watch.
const MAX_CALLS: usize = 20;

/// Password that must not occur in an error, unless the server has sent the same text.
const SECRET: &str = "hunter2";

/// Makes a series of reloads with the read size of the input, and the same series with whole replies. Both series
/// must give the same results. Then runs a watch.
pub fn run(input: &[u8]) {
    let Some(mut server) = ServerScript::parse(input) else { return };
    server.parts.truncate(MAX_CONNECTIONS);
    // The plugin allocates a bulk string with its announced length, up to 16 MiB.
    let memory_limit = (17 << 20) + 100 * input.len();
    with_memory_limit(memory_limit, || {
        let in_reads = read(&server, server.read_bytes);
        let whole = read(&server, usize::MAX);
        assert_eq!(in_reads, whole, "the result depends on the read size");
    });
    with_memory_limit(memory_limit, || watch(&server));
}

fn plugin(server: &ServerScript<'_>, read_bytes: usize) -> Kvs {
    let fake = FakeHost::new();
    for part in &server.parts {
        let mut script = Script::new().heedless();
        for read in split_reads(part, read_bytes) {
            script = match read {
                Some(bytes) => script.reply(bytes),
                None => script.silence(),
            };
        }
        fake.next_connection(script);
    }
    let is = |letter: u8| (server.mode == letter).then(|| "a".to_owned());
    let (hash, prefix) = (is(b'h'), is(b'p'));
    let key = (hash.is_none() && prefix.is_none()).then(|| "a".to_owned());
    let settings = Settings {
        url: format!("redis://user:{SECRET}@db/1"),
        key,
        hash,
        prefix,
        username: None,
        password: None,
        database: None,
        media_type: None,
        max_keys: MAX_KEYS,
        keepalive: 15,
        timeout: 5,
    };
    Kvs::new(settings, &fake.host()).expect("valid settings")
}

/// Returns the results of one reload for each scripted connection. A read gets at most `read_bytes`.
fn read(server: &ServerScript<'_>, read_bytes: usize) -> Vec<Result<Outcome, String>> {
    let mut plugin = plugin(server, read_bytes);
    let mut outcomes = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let outcome = plugin.reload(None).map_err(|failure| failure.to_string());
        match &outcome {
            Ok(Outcome::Changed(snapshot)) => check(server, snapshot),
            Ok(_) => {}
            Err(message) => {
                let is_sent = server.contains(SECRET);
                assert!(is_sent || !message.contains(SECRET), "a secret is leaked: {message}");
            }
        }
        outcomes.push(outcome);
    }
    outcomes
}

fn watch(server: &ServerScript<'_>) {
    let mut plugin = plugin(server, server.read_bytes);
    if plugin.watch(None).is_err() {
        return;
    }
    for _ in 0..MAX_CALLS {
        match plugin.next() {
            Ok(Event::Changed(snapshot)) => check(server, &snapshot),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Checks that the value of a hash or a prefix is a JSON object of strings, and that a prefix has at most [`MAX_KEYS`]
/// members.
fn check(server: &ServerScript<'_>, snapshot: &Snapshot) {
    if matches!(server.mode, b'h' | b'p') {
        let object: serde_json::Map<_, _> =
            serde_json::from_slice(&snapshot.content).expect("a JSON object");
        assert!(!object.is_empty() && object.values().all(serde_json::Value::is_string));
        assert!(server.mode == b'h' || object.len() <= MAX_KEYS as usize, "too many keys");
    }
}
