//! Watching by client-side caching: the server announces each change of a key on the connection on
//! which the key is then read, so a change costs one round trip (Redis 6 and later, RESP3).
//!
//! # Why no change is lost
//!
//! An announcement is noted in [`Invalidated`] before anything else is done with it, also when it arrives
//! in the middle of an answer, and a note is taken away only by the read that starts after it. The
//! last announcement is thus always followed by a read. One that was made before the answer, but was
//! read with it, leads to a read that was not needed; the host sees that the value is the same.

use crate::{
    address::Login,
    connection::{RespConnection, Server},
    error::{Error, ErrorReply},
    resp::Frame,
    prefix::Entries,
    query::{Query, to_json},
};
use guest_sdk::{Event, Snapshot};
use std::{collections::BTreeSet, mem, time::Duration};

/// A connection on which changes are announced.
#[derive(Debug)]
pub(crate) struct ClientTracking {
    connection: RespConnection,
    invalidated: Invalidated,
    /// For a prefix, what is known of it: then only what has changed is read again.
    entries: Option<Entries>,
}

/// What was announced, and has not been read since.
#[derive(Debug, Default)]
enum Invalidated {
    #[default]
    None,
    Keys(BTreeSet<Vec<u8>>),
    All,
}

impl ClientTracking {
    /// Starts to watch; or gives the server's reason why it cannot be done in this way.
    pub(crate) fn start(
        server: &Server,
        query: &Query,
    ) -> Result<Result<Self, ErrorReply>, Error> {
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

    /// Waits for the next change, and reads the value.
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
            // A foreign change or a good answer: either way the connection works.
            return Ok(Event::Alive);
        }
        match self.read(invalidated, query) {
            Ok(Some(snapshot)) => Ok(Event::Changed(snapshot)),
            Err(lost @ Error::Lost(_)) => Err(lost),
            // No value, or none of use: for the host to find out and to report.
            Ok(None) | Err(_) => Ok(Event::Dirty),
        }
    }

    fn read(&mut self, invalidated: Invalidated, query: &Query) -> Result<Option<Snapshot>, Error> {
        let Query::Prefix(prefix) = query else { return query.read(&mut self.connection) };
        // Taken, so that after a failure everything is read anew.
        let entries = match (self.entries.take(), invalidated) {
            (Some(mut entries), Invalidated::Keys(keys)) => {
                prefix.refresh(&mut self.connection, keys, &mut entries)?;
                entries
            }
            _ => prefix.read(&mut self.connection)?,
        };
        to_json(self.entries.insert(entries))
    }

    /// Notes what has arrived already, so that many changes lead to one read.
    fn record_buffered(&mut self, query: &Query) -> Result<(), Error> {
        while let Some(frame) = self.connection.buffered()? {
            self.record(frame, query)?;
        }
        Ok(())
    }

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
            // All of it: the database was emptied.
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

/// Sets apart the refusals which mean that the server, or this user, cannot do it.
fn available(answer: Result<Frame, Error>) -> Result<Result<Frame, ErrorReply>, Error> {
    match answer {
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

    /// A server that announces a change of `app`, and is then asked for it.
    fn changed(answer: &str) -> Script {
        tracking("app").reply(invalidate("app")).expect(command("GET app")).reply(answer)
    }

    fn next(script: Script) -> Result<Event, Failure> {
        watch(key(), [script]).unwrap().next()
    }

    #[test]
    fn a_change_is_read_at_once_with_one_request_on_the_same_connection() {
        assert_eq!(next(changed("$1\r\n2\r\n")), Ok(value("2")));
    }

    #[test]
    fn the_login_and_the_database_are_part_of_the_beginning() {
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
    fn a_refused_login_is_denied_and_nothing_else_is_tried() {
        let script = Script::new().expect(command("HELLO 3")).reply("-NOAUTH HELLO must be…\r\n");
        let failure = watch(key(), [script]).err().unwrap();
        assert_eq!(failure.kind, FailureKind::Denied);
    }

    #[test]
    fn other_keys_with_the_same_beginning_are_only_a_sign_of_life() {
        assert_eq!(next(tracking("app").reply(invalidate("apple"))), Ok(Event::Alive));
    }

    #[test]
    fn several_changes_that_have_arrived_are_one_read() {
        let burst = invalidate("app") + &invalidate("apple") + &invalidate("app");
        let script =
            tracking("app").reply(burst).expect(command("GET app")).reply("$1\r\n3\r\n").silence();
        let script = script.expect(command("PING")).reply("+PONG\r\n");
        let mut source = watch(key(), [script]).unwrap();
        assert_eq!(source.next(), Ok(value("3")));
        assert_eq!(source.next(), Ok(Event::Alive));
    }

    #[test]
    fn a_change_that_is_announced_during_a_read_leads_to_another_read() {
        for answer in [
            invalidate("app") + "$1\r\n2\r\n",             // before the answer
            "$1\r\n2\r\n".to_owned() + &invalidate("app"), // right behind it
        ] {
            let script = changed(&answer).expect(command("GET app")).reply("$1\r\n3\r\n");
            let mut source = watch(key(), [script]).unwrap();
            assert_eq!(source.next(), Ok(value("2")));
            assert_eq!(source.next(), Ok(value("3")));
        }
    }

    #[test]
    fn a_change_that_is_announced_while_the_watch_is_set_up_is_not_lost() {
        let script = Script::new()
            .expect(command("HELLO 3"))
            .reply(HELLO)
            .expect(command("CLIENT TRACKING ON BCAST PREFIX app"))
            .reply("+OK\r\n".to_owned() + &invalidate("app"))
            .expect(command("GET app"))
            .reply("$1\r\n2\r\n");
        assert_eq!(next(script), Ok(value("2")));
    }

    #[test]
    fn a_value_that_is_gone_or_of_no_use_is_for_the_host_to_look_at() {
        let emptied = tracking("app").reply(">2\r\n$10\r\ninvalidate\r\n_\r\n");
        let gone = emptied.expect(command("GET app")).reply("_\r\n");
        assert_eq!(next(gone), Ok(Event::Dirty));

        let list = changed("-WRONGTYPE Operation against a key\r\n")
            .expect(command("TYPE app"))
            .reply("+list\r\n");
        assert_eq!(next(list), Ok(Event::Dirty));
    }

    #[test]
    fn below_a_prefix_only_what_has_changed_is_read_again() {
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
    fn silence_is_tested_and_a_change_that_comes_with_the_answer_counts() {
        let quiet = tracking("app").silence().expect(command("PING"));
        assert_eq!(next(quiet.clone().reply("+PONG\r\n")), Ok(Event::Alive));

        let late = quiet
            .clone()
            .reply(invalidate("app") + "+PONG\r\n")
            .expect(command("GET app"))
            .reply("$1\r\n2\r\n");
        assert_eq!(next(late), Ok(value("2")));

        let dead = next(quiet.silence()).unwrap_err();
        assert!(dead.message.contains("no answer to PING within 5s"), "{dead}");
        assert!(dead.message.contains("half-open"), "{dead}");
    }

    #[test]
    fn a_closed_connection_ends_the_watch() {
        let closed = Failure::transient("db:6379: the other side closed the connection");
        assert_eq!(next(tracking("app")), Err(closed));
    }
}
