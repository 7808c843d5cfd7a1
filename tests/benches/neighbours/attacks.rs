//! Attacks: hostile plugins and hostile servers.

use e2e::{guest, hostile, text_guest};
use reloader_host::{Plugin, Source, Strategy};
use std::{fs, io::Write, path::Path, time::Duration};

/// Attack: a hostile source and its strategy.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    guest: Guest,
    strategy: Strategy,
}

enum Guest {
    /// Guest `attacker` with these settings. `PATH` is replaced by the path of a granted file,
    /// `PORT` by the port of a server that accepts connections and sends nothing.
    Attacker(&'static [(&'static str, &'static str)]),
    Text(&'static str),
    /// Bundled plugin with these settings, connected to a hostile server. `PORT` is replaced by the
    /// server's port.
    HostileServer(&'static str, &'static [(&'static str, &'static str)], fn() -> hostile::Server),
}
use Guest::{Attacker, HostileServer, Text};

impl Attack {
    /// Returns the path or the name of the hostile plugin.
    pub(crate) fn plugin(&self) -> String {
        match self.guest {
            Attacker(_) => guest("attacker").display().to_string(),
            Text(name) => text_guest(name).display().to_string(),
            HostileServer(plugin, ..) => plugin.to_owned(),
        }
    }

    /// Starts the hostile source. Files of the attack are created in the directory of `path`.
    pub(crate) fn start(&self, plugin: &Plugin, path: &Path) -> Source {
        let mut source = plugin.source("hostile").interval(Duration::from_millis(10));
        let granted = path.with_file_name("granted");
        fs::write(&granted, "something").unwrap();
        let (settings, port) = match self.guest {
            Attacker(settings) => (settings, hostile::tcp(hostile::hold).port()),
            Text(_) => (&[][..], 0),
            HostileServer(_, settings, server) => (settings, server().port()),
        };
        for (name, value) in settings {
            let value = value.replace("PORT", &port.to_string());
            source = source.set(name, value.replace("PATH", &granted.display().to_string()));
        }
        source.strategy(self.strategy).start().unwrap()
    }
}

const URL: (&str, &str) = ("url", "http://127.0.0.1:PORT/");
const EVENTS: [(&str, &str); 3] =
    [URL, ("watch", "sse"), ("watch_url", "http://127.0.0.1:PORT/events")];
const KEY: [(&str, &str); 2] = [("url", "redis://127.0.0.1:PORT"), ("key", "app")];

const POLLED: Strategy = Strategy::Polling;
const WATCHED: Strategy = Strategy::Realtime;

/// All attacks: first of guests on CPU time, memory, the log and the protocol, then of hostile servers.
pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "baseline", guest: Text("minimal"), strategy: POLLED },
    Attack {
        name: "infinite-loop",
        guest: Attacker(&[("attack", "infinite-loop")]),
        strategy: POLLED,
    },
    Attack {
        name: "infinite-loop-open",
        guest: Attacker(&[("attack", "infinite-loop"), ("when", "open")]),
        strategy: POLLED,
    },
    Attack {
        name: "infinite-loop-next",
        guest: Attacker(&[("attack", "infinite-loop"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack { name: "start-infinite-loop", guest: Text("start-infinite-loop"), strategy: POLLED },
    Attack {
        name: "realloc-infinite-loop",
        guest: Text("realloc-infinite-loop"),
        strategy: POLLED,
    },
    Attack {
        name: "compute-and-sleep",
        guest: Attacker(&[("attack", "compute-and-sleep")]),
        strategy: POLLED,
    },
    Attack { name: "busy-wait", guest: Attacker(&[("attack", "busy-wait")]), strategy: POLLED },
    Attack { name: "busy-calls", guest: Attacker(&[("attack", "busy-calls")]), strategy: POLLED },
    Attack {
        name: "busy-read",
        guest: Attacker(&[("attack", "busy-read"), ("granted", "PATH"), ("to", "PATH")]),
        strategy: POLLED,
    },
    Attack { name: "stack-overflow", guest: Text("stack-overflow"), strategy: POLLED },
    Attack { name: "memory-fill", guest: Text("memory-fill"), strategy: POLLED },
    Attack { name: "periodic-memory-fill", guest: Text("periodic-memory-fill"), strategy: WATCHED },
    Attack {
        name: "memory-growth-by-pages",
        guest: Text("memory-growth-by-pages"),
        strategy: POLLED,
    },
    Attack {
        name: "memory-growth",
        guest: Attacker(&[("attack", "memory-growth")]),
        strategy: POLLED,
    },
    Attack { name: "oversized-list", guest: Text("oversized-list"), strategy: POLLED },
    Attack {
        name: "oversized-value",
        guest: Attacker(&[("attack", "oversized-value")]),
        strategy: POLLED,
    },
    Attack {
        name: "max-size-values",
        guest: Attacker(&[("attack", "max-size-values")]),
        strategy: POLLED,
    },
    Attack {
        name: "max-size-values-next",
        guest: Attacker(&[("attack", "max-size-values"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack {
        name: "oversized-cursor",
        guest: Attacker(&[("attack", "oversized-cursor")]),
        strategy: POLLED,
    },
    Attack {
        name: "oversized-failure",
        guest: Attacker(&[("attack", "oversized-failure")]),
        strategy: POLLED,
    },
    Attack { name: "many-fields", guest: Text("many-fields"), strategy: POLLED },
    Attack {
        name: "random-flood",
        guest: Attacker(&[("attack", "random-flood")]),
        strategy: POLLED,
    },
    Attack {
        name: "header-flood",
        guest: Attacker(&[("attack", "header-flood")]),
        strategy: POLLED,
    },
    Attack {
        name: "pollable-exhaustion",
        guest: Attacker(&[("attack", "pollable-exhaustion")]),
        strategy: POLLED,
    },
    Attack {
        name: "socket-exhaustion",
        guest: Attacker(&[("attack", "socket-exhaustion")]),
        strategy: POLLED,
    },
    Attack {
        name: "connection-exhaustion",
        guest: Attacker(&[
            ("attack", "connection-exhaustion"),
            ("address", "tcp://127.0.0.1:PORT"),
            ("to", "127.0.0.1:PORT"),
        ]),
        strategy: POLLED,
    },
    Attack {
        name: "endless-upload",
        guest: Attacker(&[
            ("attack", "endless-upload"),
            ("address", "http://127.0.0.1:PORT"),
            ("to", "127.0.0.1:PORT"),
        ]),
        strategy: POLLED,
    },
    Attack {
        name: "watch-exhaustion",
        guest: Attacker(&[("attack", "watch-exhaustion"), ("granted", "PATH"), ("to", "PATH")]),
        strategy: POLLED,
    },
    Attack { name: "log-flood", guest: Attacker(&[("attack", "log-flood")]), strategy: POLLED },
    Attack {
        name: "log-oversized",
        guest: Attacker(&[("attack", "log-oversized")]),
        strategy: POLLED,
    },
    Attack { name: "print-flood", guest: Attacker(&[("attack", "print-flood")]), strategy: POLLED },
    Attack {
        name: "dirty",
        guest: Attacker(&[("attack", "dirty"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack { name: "event-flood", guest: Text("event-flood"), strategy: WATCHED },
    Attack { name: "large-values", guest: Text("large-values"), strategy: WATCHED },
    Attack {
        name: "frequent-short-computation",
        guest: Text("frequent-short-computation"),
        strategy: WATCHED,
    },
    Attack {
        name: "alive",
        guest: Attacker(&[("attack", "alive"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack {
        name: "distinct-values",
        guest: Attacker(&[("attack", "distinct-values"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack { name: "trap", guest: Attacker(&[("attack", "trap")]), strategy: POLLED },
    Attack {
        name: "trap-next",
        guest: Attacker(&[("attack", "trap"), ("when", "next")]),
        strategy: WATCHED,
    },
    Attack {
        name: "server-gzip-bomb",
        guest: HostileServer("http", &[URL], gzip_bomb),
        strategy: POLLED,
    },
    Attack {
        name: "server-endless-body",
        guest: HostileServer("http", &[URL], || endless_body("", b"endless")),
        strategy: POLLED,
    },
    Attack {
        name: "server-endless-chunks",
        guest: HostileServer("http", &[URL], || {
            endless_body("transfer-encoding: chunked\r\n", b"1\r\nx\r\n")
        }),
        strategy: POLLED,
    },
    Attack {
        name: "server-header-flood",
        guest: HostileServer("http", &[URL], many_headers),
        strategy: POLLED,
    },
    Attack {
        name: "server-redirect-loop",
        guest: HostileServer("http", &[URL], redirect_loop),
        strategy: POLLED,
    },
    Attack {
        name: "server-event-flood",
        guest: HostileServer("http", &EVENTS, event_flood),
        strategy: WATCHED,
    },
    Attack {
        name: "server-endless-array",
        guest: HostileServer("kvs", &KEY, endless_array),
        strategy: POLLED,
    },
    Attack {
        name: "server-push-flood",
        guest: HostileServer("kvs", &KEY, push_flood),
        strategy: POLLED,
    },
    Attack {
        name: "server-wrong-protocol",
        guest: HostileServer("kvs", &KEY, wrong_protocol),
        strategy: POLLED,
    },
];

/// Decompression bomb: 1 GiB of zeros.
fn gzip_bomb() -> hostile::Server {
    let bomb = hostile::gzip_bomb(1 << 30);
    hostile::http(move |_, stream| {
        hostile::respond(stream, "200 OK", "content-encoding: gzip\r\n", &bomb)
    })
}

/// Endless response body that repeats `piece`.
fn endless_body(header: &'static str, piece: &'static [u8]) -> hostile::Server {
    hostile::http(move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\n{header}\r\n")?;
        hostile::flood(stream, piece)
    })
}

fn many_headers() -> hostile::Server {
    let headers: String = (0..5_000).map(|number| format!("x-{number}: {number}\r\n")).collect();
    hostile::http(move |_, stream| hostile::respond(stream, "200 OK", &headers, b"x"))
}

fn redirect_loop() -> hostile::Server {
    hostile::http(|_, stream| hostile::respond(stream, "302 Found", "location: /\r\n", b""))
}

fn event_flood() -> hostile::Server {
    hostile::http(|path, stream| {
        if path != "/events" {
            return hostile::respond(stream, "200 OK", "", b"value");
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")?;
        hostile::flood(stream, b"data: x\n\n")
    })
}

/// RESP array with 99,999,999 null elements.
fn endless_array() -> hostile::Server {
    hostile::resp(|_, stream| {
        stream.write_all(b"*99999999\r\n")?;
        hostile::flood(stream, b"_\r\n")
    })
}

fn push_flood() -> hostile::Server {
    hostile::resp(|_, stream| hostile::flood(stream, b">2\r\n+a\r\n+b\r\n"))
}

fn wrong_protocol() -> hostile::Server {
    hostile::resp(|_, stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
}
