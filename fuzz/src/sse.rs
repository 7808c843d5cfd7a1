//! A web server that answers what it likes: the whole plugin `http` against it.
//!
//! The input is a [conversation](crate::pieces); the choice is between polling (`p`), server-sent
//! events (`s`) and long polling (`l`). A response is its status, a line for each header field, an
//! empty line, and the body.

use crate::{
    memory::bounded,
    pieces::{Conversation, contains, pieces},
};
use guest_sdk::{Event, FakeHost, FakeResponse, Outcome, RealtimeWatch, Reload};
use plugin_http::{Settings, Url, Watch};
use std::collections::BTreeMap;

/// How long a value may be, and how many redirects are followed.
const MAX_BYTES: u32 = 256;
const REDIRECTS: u32 = 3;
/// How often the plugin is asked. It waits when long polls are answered at once more often than this.
const CALLS: usize = 16;
/// What must not go anywhere else, nor into an error, unless the server says it itself.
const SECRET: &str = "hunter2";

/// Reads, or watches.
pub fn run(input: &[u8]) {
    let Some(mut server) = Conversation::new(input) else { return };
    server.parts.truncate(CALLS);
    bounded((1 << 20) + 200 * input.len(), || {
        let in_pieces = talk(&server, server.step);
        let whole = talk(&server, usize::MAX);
        if matches!(server.choice, b's' | b'l') {
            // A piece that ends no event is a sign of life of its own.
            let news =
                |said: &[Result<String, String>]| said.iter().any(|s| s == &Ok("dirty".into()));
            let end = |said: &[Result<String, String>]| said.last().cloned().and_then(Result::err);
            if in_pieces.len() < CALLS && whole.len() < CALLS {
                assert_eq!(news(&in_pieces), news(&whole), "it depends on how the events arrive");
                assert_eq!(end(&in_pieces), end(&whole), "it depends on how the end arrives");
            }
        } else {
            assert_eq!(in_pieces, whole, "it depends on how the body arrives");
        }
    });
}

/// What the plugin makes of it, call by call.
fn talk(server: &Conversation<'_>, step: usize) -> Vec<Result<String, String>> {
    let fake = FakeHost::new();
    for part in &server.parts {
        fake.next_response(Ok(response(part, step)));
    }
    let settings = Settings {
        url: format!("https://user:{SECRET}@example.com/a/b"),
        headers: Some(BTreeMap::from([("x-key".into(), SECRET.into())])),
        expect: vec![200],
        absent: vec![404, 410],
        max_bytes: MAX_BYTES,
        timeout: 10,
        deadline: 25,
        redirects: REDIRECTS,
        watch: match server.choice {
            b's' => Watch::Sse,
            b'l' => Watch::LongPoll,
            _ => Watch::None,
        },
        watch_url: None,
        silence: 60,
    };
    let mut plugin = Url::new(settings, &fake.host()).expect("the settings are sound");
    let said =
        if matches!(server.choice, b's' | b'l') { watch(&mut plugin) } else { read(&mut plugin) };
    let known = server.parts.iter().any(|part| contains(part, SECRET));
    for error in said.iter().filter_map(|said| said.as_ref().err()) {
        assert!(known || !error.contains(SECRET), "a secret is shown: {error}");
    }
    let requests = fake.requests();
    assert!(requests.len() <= CALLS * (REDIRECTS as usize + 1));
    for request in requests {
        assert_eq!(request.method, "GET");
        for (name, value) in &request.headers {
            assert!(!value.chars().any(char::is_control), "{name}: {value:?}");
        }
        let Ok(url) = url::Url::parse(&request.url) else { continue };
        assert!(matches!(url.scheme(), "http" | "https"), "{url}");
        assert!(url.username().is_empty() && url.password().is_none(), "{url}");
        assert_eq!(url.fragment(), None, "{url}");
        let private = |name: &str| name == "x-key" || name == "authorization";
        if request.headers.iter().any(|(name, _)| private(name)) {
            // Compared as the host does it, whose notion of an address is another parser's.
            assert_eq!(url.origin().ascii_serialization(), "https://example.com", "{url}");
        }
    }
    said
}

fn read(plugin: &mut Url) -> Vec<Result<String, String>> {
    let mut known = None;
    let mut said = Vec::new();
    for _ in 0..CALLS {
        said.push(match plugin.reload(known.as_deref()) {
            Ok(Outcome::Changed(snapshot)) => {
                assert!(snapshot.content.len() <= MAX_BYTES as usize);
                known = snapshot.cursor.clone();
                Ok(format!("{snapshot:?}"))
            }
            Ok(other) => Ok(format!("{other:?}")),
            Err(failure) => Err(failure.to_string()),
        });
    }
    said
}

/// Up to the first failure, which ends a watch.
fn watch(plugin: &mut Url) -> Vec<Result<String, String>> {
    if let Err(failure) = plugin.watch(None) {
        return vec![Err(format!("{failure:?}"))];
    }
    let mut said = Vec::new();
    while said.len() < CALLS {
        let event = plugin.next();
        let ended = event.is_err();
        said.push(match event {
            Ok(Event::Dirty) => Ok("dirty".into()),
            Ok(_) => Ok("alive".into()),
            Err(failure) => Err(format!("{failure:?}")),
        });
        if ended {
            break;
        }
    }
    said
}

fn response(part: &[u8], step: usize) -> FakeResponse {
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
    for piece in pieces(body, step) {
        response = match piece {
            Some(bytes) => response.chunk(bytes),
            None => response.silence(),
        };
    }
    response
}
