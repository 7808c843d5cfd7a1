//! Watch with client tracking, the server support for client-side caching (Redis 6 and later, RESP3).
//!
//! The server sends an invalidation message for each change of a key in the prefix (broadcasting mode). The
//! plugin reads the value over the same connection, so a change costs one round trip.
//!
//! # Why no change is lost
//!
//! Each invalidation is first recorded in [`Invalidated`], even if it arrives before a pending reply. Only a
//! read that starts afterwards clears the record, so a read follows the last invalidation. An invalidation
//! can arrive together with a reply that already includes the change. The additional read then returns an
//! equal value, which the host ignores.

use crate::{
    address::Login,
    connection::{RespConnection, Server},
    error::{Error, ErrorReply},
    json_object::{Entries, to_json},
    query::Query,
    resp::Frame,
};
use guest_sdk::{Event, Snapshot};
use std::{collections::BTreeSet, mem, time::Duration};

/// Connection with client tracking enabled.
#[derive(Debug)]
pub(crate) struct ClientTracking {
    connection: RespConnection,
    invalidated: Invalidated,
    /// Last known entries of a prefix. A change then requires only the changed keys to be read.
    entries: Option<Entries>,
}

/// Keys that the server has reported as changed since the last read.
#[derive(Debug, Default)]
enum Invalidated {
    #[default]
    None,
    Keys(BTreeSet<Vec<u8>>),
    All,
}

impl ClientTracking {
    /// Enables tracking. Returns the error reply if tracking is unavailable.
    pub(crate) fn start(server: &Server, query: &Query) -> Result<Result<Self, ErrorReply>, Error> {
        let mut connection = server.dial()?;
        let mut hello = vec!["HELLO", "3"];
        if let Some(Login { user, password }) = &server.address.login {
            hello.extend(["AUTH", user.as_deref().unwrap_or("default"), password]);
        }
        if let Err(reply) = available(connection.request(&hello))? {
            return Ok(Err(reply));
        }
        server.select(&mut connection)?;
        let track = ["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", query.key_or_prefix()];
        let tracked = available(connection.request(&track))?;
        Ok(tracked.map(|_| Self { connection, invalidated: Invalidated::None, entries: None }))
    }

    /// Waits for the next invalidation and reads the value. Sends `PING` after `keepalive` without data.
    pub(crate) fn next(&mut self, query: &Query, keepalive: Duration) -> Result<Event, Error> {
        self.record_buffered(query)?;
        if matches!(self.invalidated, Invalidated::None) {
            match self.connection.receive(keepalive)? {
                Some(frame) => self.record(frame, query)?,
                None => self.connection.ping()?,
            }
            self.record_buffered(query)?;
        }
        let invalidated = mem::take(&mut self.invalidated);
        if matches!(invalidated, Invalidated::None) {
            // A change of another key, or a reply to `PING`: the connection works.
            return Ok(Event::Alive);
        }
        match self.read(invalidated, query) {
            Ok(Some(snapshot)) => Ok(Event::Changed(snapshot)),
            Err(lost @ Error::Lost(_)) => Err(lost),
            // The host reloads to confirm a missing value, or to report the failure.
            Ok(None) | Err(_) => Ok(Event::Dirty),
        }
    }

    /// Reads the value. For a prefix with known entries, reads only the invalidated keys.
    fn read(&mut self, invalidated: Invalidated, query: &Query) -> Result<Option<Snapshot>, Error> {
        let Query::Prefix(prefix) = query else { return query.read(&mut self.connection) };
        // After a failure, `self.entries` stays empty, and the next read reads all keys.
        let entries = match (self.entries.take(), invalidated) {
            (Some(mut entries), Invalidated::Keys(keys)) => {
                prefix.refresh(&mut self.connection, keys, &mut entries)?;
                entries
            }
            _ => prefix.read(&mut self.connection)?,
        };
        to_json(self.entries.insert(entries))
    }

    /// Records all invalidations that have already arrived, to coalesce them in one read.
    fn record_buffered(&mut self, query: &Query) -> Result<(), Error> {
        while let Some(frame) = self.connection.buffered()? {
            self.record(frame, query)?;
        }
        Ok(())
    }

    /// Records an invalidation message. Ignores other push messages and other keys.
    fn record(&mut self, frame: Frame, query: &Query) -> Result<(), Error> {
        let Frame::Push(items) = frame else { return Err(Error::unsolicited()) };
        let mut items = items.into_iter();
        if items.next() != Some(Frame::Text(b"invalidate".to_vec())) {
            return Ok(());
        }
        match items.next() {
            Some(Frame::List(keys)) => {
                self.invalidated.add(keys.into_iter().filter_map(|key| match key {
                    Frame::Text(key) if query.is_affected_by(&key) => Some(key),
                    _ => None,
                }))
            }
            // A null instead of a list of keys: `FLUSHALL` or `FLUSHDB`.
            _ => self.invalidated = Invalidated::All,
        }
        Ok(())
    }
}

impl Invalidated {
    fn add(&mut self, keys: impl Iterator<Item = Vec<u8>>) {
        for key in keys {
            match self {
                Self::None => *self = Self::Keys(BTreeSet::from([key])),
                Self::Keys(keys) => drop(keys.insert(key)),
                Self::All => {}
            }
        }
    }
}

/// Separates error replies for an unavailable command from other errors.
fn available(result: Result<Frame, Error>) -> Result<Result<Frame, ErrorReply>, Error> {
    match result {
        Ok(frame) => Ok(Ok(frame)),
        Err(Error::Reply(reply)) if reply.is_unavailable() => Ok(Err(reply)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{command, key, prefix, value, watch};
    use guest_sdk::{Event, Failure, FailureKind, RealtimeWatch, Script, Snapshot};

    const HELLO: &str = "%2\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n";

    fn tracking(name: &str) -> Script {
        Script::new()
            .expect(command("HELLO 3"))
            .reply(HELLO)
            .expect(command(&format!("CLIENT TRACKING ON BCAST PREFIX {name}")))
            .reply("+OK\r\n")
    }

    fn invalidate(key: &str) -> String {
        format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n${}\r\n{key}\r\n", key.len())
    }

    /// Returns the script of a server that invalidates `app` and replies to the read.
    fn changed(reply: &str) -> Script {
        tracking("app").reply(invalidate("app")).expect(command("GET app")).reply(reply)
    }

    fn next(script: Script) -> Result<Event, Failure> {
        watch(key(), [script]).unwrap().next()
    }

    #[test]
    fn invalidation_triggers_read_on_same_connection() {
        assert_eq!(next(changed("$1\r\n2\r\n")), Ok(value("2")));
    }

    #[test]
    fn start_authenticates_and_selects_database() {
        let script = Script::new()
            .expect(command("HELLO 3 AUTH default pw"))
            .reply(HELLO)
            .expect(command("SELECT 3"))
            .reply("+OK\r\n")
            .expect(command("CLIENT TRACKING ON BCAST PREFIX app"))
            .reply("+OK\r\n");
        let mut settings = key();
        settings.url = "redis://:pw@db/3".into();
        watch(settings, [script]).unwrap();
    }

    #[test]
    fn failed_authentication_has_no_fallback() {
        let script = Script::new().expect(command("HELLO 3")).reply("-NOAUTH HELLO must be…\r\n");
        let failure = watch(key(), [script]).err().unwrap();
        assert_eq!(failure.kind, FailureKind::Denied);
    }

    #[test]
    fn invalidation_of_other_key_is_alive() {
        assert_eq!(next(tracking("app").reply(invalidate("apple"))), Ok(Event::Alive));
    }

    #[test]
    fn buffered_invalidations_are_coalesced() {
        let burst = invalidate("app") + &invalidate("apple") + &invalidate("app");
        let script =
            tracking("app").reply(burst).expect(command("GET app")).reply("$1\r\n3\r\n").silence();
        let script = script.expect(command("PING")).reply("+PONG\r\n");
        let mut source = watch(key(), [script]).unwrap();
        assert_eq!(source.next(), Ok(value("3")));
        assert_eq!(source.next(), Ok(Event::Alive));
    }

    #[test]
    fn invalidation_during_read_triggers_another() {
        for reply in [
            invalidate("app") + "$1\r\n2\r\n",             // before the reply
            "$1\r\n2\r\n".to_owned() + &invalidate("app"), // directly after the reply
        ] {
            let script = changed(&reply).expect(command("GET app")).reply("$1\r\n3\r\n");
            let mut source = watch(key(), [script]).unwrap();
            assert_eq!(source.next(), Ok(value("2")));
            assert_eq!(source.next(), Ok(value("3")));
        }
    }

    #[test]
    fn invalidation_during_start_is_kept() {
        let script = Script::new()
            .expect(command("HELLO 3"))
            .reply(HELLO)
            .expect(command("CLIENT TRACKING ON BCAST PREFIX app"))
            .reply("+OK\r\n".to_owned() + &invalidate("app"))
            .expect(command("GET app"))
            .reply("$1\r\n2\r\n");
        assert_eq!(next(script), Ok(value("2")));
    }

    /// The host reloads to confirm the missing value or to report the failure.
    #[test]
    fn missing_or_unusable_value_is_dirty() {
        let emptied = tracking("app").reply(">2\r\n$10\r\ninvalidate\r\n_\r\n");
        let gone = emptied.expect(command("GET app")).reply("_\r\n");
        assert_eq!(next(gone), Ok(Event::Dirty));

        let list = changed("-WRONGTYPE Operation against a key\r\n")
            .expect(command("TYPE app"))
            .reply("+list\r\n");
        assert_eq!(next(list), Ok(Event::Dirty));
    }

    #[test]
    fn prefix_reads_only_invalidated_keys() {
        let script = tracking("app:")
            .reply(invalidate("app:a"))
            .expect(command("SCAN 0 MATCH app:* COUNT 1000"))
            .reply("*2\r\n$1\r\n0\r\n*2\r\n$5\r\napp:a\r\n$5\r\napp:b\r\n")
            .expect(command("MGET app:a app:b"))
            .reply("*2\r\n$1\r\n1\r\n$1\r\n2\r\n")
            .reply(invalidate("app:c"))
            .expect(command("MGET app:c"))
            .reply("*1\r\n$1\r\n3\r\n")
            .reply(invalidate("app:a") + &invalidate("app:b"))
            .expect(command("MGET app:a app:b"))
            .reply("*2\r\n_\r\n$1\r\n4\r\n");
        let mut source = watch(prefix(), [script]).unwrap();
        for expected in
            [r#"{"a":"1","b":"2"}"#, r#"{"a":"1","b":"2","c":"3"}"#, r#"{"b":"4","c":"3"}"#]
        {
            let snapshot = Snapshot::new(expected).media_type("application/json");
            assert_eq!(source.next(), Ok(snapshot.into()));
        }
    }

    #[test]
    fn silence_triggers_ping() {
        let quiet = tracking("app").silence().expect(command("PING"));
        assert_eq!(next(quiet.clone().reply("+PONG\r\n")), Ok(Event::Alive));

        let late = quiet
            .clone()
            .reply(invalidate("app") + "+PONG\r\n")
            .expect(command("GET app"))
            .reply("$1\r\n2\r\n");
        assert_eq!(next(late), Ok(value("2")));

        let dead = next(quiet.silence()).unwrap_err();
        assert!(dead.message.contains("no reply to PING within 5s"), "{dead}");
        assert!(dead.message.contains("half-open"), "{dead}");
    }

    #[test]
    fn closed_connection_fails_watch() {
        let closed = Failure::transient("db:6379: connection closed by the server");
        assert_eq!(next(tracking("app")), Err(closed));
    }
}
