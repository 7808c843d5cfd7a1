//! Fuzz target: the plugin `http` against a scripted web server.
//!
//! The input has the format of [`crate::server_script`]. The mode is polling (`p`), server-sent
//! events (`s`) or long polling (`l`). A response consists of its status, one line for each header field,
//! an empty line, and the body.

use crate::{
    memory_limit::with_memory_limit,
    server_script::{ServerScript, split_reads},
};
use guest_sdk::{Event, FakeHost, FakeResponse, Outcome, RealtimeWatch, Reload};
use plugin_http::{Settings, Url, Watch};
use std::collections::BTreeMap;

/// Maximum size of a value, in bytes: the setting `max_bytes` of the plugin.
const MAX_BYTES: u32 = 256;
/// Maximum number of redirects per request: the setting `redirects` of the plugin.
const MAX_REDIRECTS: u32 = 3;
/// Maximum number of calls of the plugin. It must stay below the number of immediate responses after
/// which the plugin delays long polls.
const MAX_CALLS: usize = 16;
/// Credential that must not be sent to another origin, nor occur in an error unless the server has
/// sent the same text.
const SECRET: &str = "hunter2";

/// Runs reads or a watch, as the mode says: once with the read size that the input specifies, and once with whole
/// bodies. Both runs must give the same result.
pub fn run(input: &[u8]) {
    let Some(mut server) = ServerScript::parse(input) else { return };
    server.parts.truncate(MAX_CALLS);
    with_memory_limit((1 << 20) + 200 * input.len(), || {
        let in_reads = run_plugin(&server, server.read_bytes);
        let whole = run_plugin(&server, usize::MAX);
        if matches!(server.mode, b's' | b'l') {
            // The watch returns `alive` for a read without a complete event, so the number of `alive`
            // results may differ.
            let has_event = |results: &[Result<String, String>]| {
                results.iter().any(|result| result == &Ok("dirty".into()))
            };
            let failure =
                |results: &[Result<String, String>]| results.last().cloned().and_then(Result::err);
            if in_reads.len() < MAX_CALLS && whole.len() < MAX_CALLS {
                assert_eq!(
                    has_event(&in_reads),
                    has_event(&whole),
                    "the events depend on the read size"
                );
                assert_eq!(
                    failure(&in_reads),
                    failure(&whole),
                    "the failure depends on the read size"
                );
            }
        } else {
            assert_eq!(in_reads, whole, "the result depends on the read size");
        }
    });
}

/// Returns the result of each call of the plugin.
fn run_plugin(server: &ServerScript<'_>, read_bytes: usize) -> Vec<Result<String, String>> {
    let fake = FakeHost::new();
    for part in &server.parts {
        fake.next_response(Ok(response(part, read_bytes)));
    }
    let settings = Settings {
        url: format!("https://user:{SECRET}@example.com/a/b"),
        headers: Some(BTreeMap::from([("x-key".into(), SECRET.into())])),
        expect: vec![200],
        absent: vec![404, 410],
        max_bytes: MAX_BYTES,
        timeout: 10,
        deadline: 25,
        redirects: MAX_REDIRECTS,
        watch: match server.mode {
            b's' => Watch::Sse,
            b'l' => Watch::LongPoll,
            _ => Watch::None,
        },
        watch_url: None,
        silence: 60,
    };
    let mut plugin = Url::new(settings, &fake.host()).expect("valid settings");
    let results =
        if matches!(server.mode, b's' | b'l') { watch(&mut plugin) } else { read(&mut plugin) };
    let is_sent = server.contains(SECRET);
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(is_sent || !error.contains(SECRET), "a secret is leaked: {error}");
    }
    let requests = fake.requests();
    assert!(requests.len() <= MAX_CALLS * (MAX_REDIRECTS as usize + 1));
    for request in requests {
        assert_eq!(request.method, "GET");
        for (name, value) in &request.headers {
            assert!(!value.chars().any(char::is_control), "{name}: {value:?}");
        }
        let Ok(url) = url::Url::parse(&request.url) else { continue };
        assert!(matches!(url.scheme(), "http" | "https"), "{url}");
        assert!(url.username().is_empty() && url.password().is_none(), "{url}");
        assert_eq!(url.fragment(), None, "{url}");
        let is_secret = |name: &str| name == "x-key" || name == "authorization";
        if request.headers.iter().any(|(name, _)| is_secret(name)) {
            // The plugin parses URLs with another crate than the host. The host uses crate `url`, as this check
            // does, so this origin is the one that receives the secret.
            assert_eq!(url.origin().ascii_serialization(), "https://example.com", "{url}");
        }
    }
    results
}

fn read(plugin: &mut Url) -> Vec<Result<String, String>> {
    let mut known = None;
    let mut results = Vec::new();
    for _ in 0..MAX_CALLS {
        results.push(match plugin.reload(known.as_deref()) {
            Ok(Outcome::Changed(snapshot)) => {
                assert!(snapshot.content.len() <= MAX_BYTES as usize);
                known = snapshot.cursor.clone();
                Ok(format!("{snapshot:?}"))
            }
            Ok(other) => Ok(format!("{other:?}")),
            Err(failure) => Err(failure.to_string()),
        });
    }
    results
}

/// Returns the events up to the first failure, which ends the watch.
fn watch(plugin: &mut Url) -> Vec<Result<String, String>> {
    if let Err(failure) = plugin.watch(None) {
        return vec![Err(format!("{failure:?}"))];
    }
    let mut results = Vec::new();
    while results.len() < MAX_CALLS {
        let event = plugin.next();
        let ended = event.is_err();
        results.push(match event {
            Ok(Event::Dirty) => Ok("dirty".into()),
            Ok(_) => Ok("alive".into()),
            Err(failure) => Err(format!("{failure:?}")),
        });
        if ended {
            break;
        }
    }
    results
}

fn response(part: &[u8], read_bytes: usize) -> FakeResponse {
    let (head, body) = match part.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&part[..at], &part[at + 2..]),
        None => (part, b"".as_slice()),
    };
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split('\n');
    let status = lines.next().and_then(|status| status.trim().parse().ok()).unwrap_or(200);
    let mut response = FakeResponse::new(status);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        response = response.header(name, value.trim());
    }
    for read in split_reads(body, read_bytes) {
        response = match read {
            Some(bytes) => response.chunk(bytes),
            None => response.silence(),
        };
    }
    response
}
