//! Watching by keyspace notifications, for servers and users that cannot track: they say which key
//! changed, not to what, and only if the server is configured to.

use crate::{
    connection::{RespConnection, Server},
    error::Error,
    resp::Frame,
    query::Query,
};
use guest_sdk::{Event, tracing::warn};
use std::time::Duration;

/// A connection that is subscribed to the changes.
#[derive(Debug)]
pub(crate) struct KeyspaceNotifications {
    connection: RespConnection,
}

const EVENTS_OPTION: &str = "notify-keyspace-events";

impl KeyspaceNotifications {
    pub(crate) fn start(server: &Server, query: &Query) -> Result<Self, Error> {
        let mut connection = server.log_in()?;
        verify_notifications(&mut connection, query)?;
        let (command, name) = match query {
            Query::Key { name, .. } | Query::Hash { name } => ("SUBSCRIBE", name.clone()),
            Query::Prefix(prefix) => ("PSUBSCRIBE", prefix.pattern()),
        };
        let channel = format!("__keyspace@{}__:{name}", server.address.database);
        connection.request(&[command, &channel])?;
        Ok(Self { connection })
    }

    /// Waits for the next change.
    pub(crate) fn next(&mut self, keepalive: Duration) -> Result<Event, Error> {
        let first = match self.connection.receive(keepalive)? {
            Some(frame) => frame,
            None => self.connection.ping_subscribed()?,
        };
        let mut changed = is_change(&first);
        while let Some(frame) = self.connection.buffered()? {
            changed |= is_change(&frame);
        }
        Ok(if changed { Event::Dirty } else { Event::Alive })
    }
}

/// Whether the frame announces a change; the others answer something.
fn is_change(frame: &Frame) -> bool {
    let Frame::List(items) = frame else { return false };
    matches!(items.first(), Some(Frame::Text(kind)) if kind == b"message" || kind == b"pmessage")
}

/// A subscription that nothing is ever sent to looks like a source that never changes, so this makes
/// sure that the server announces all that can change the value.
fn verify_notifications(connection: &mut RespConnection, query: &Query) -> Result<(), Error> {
    let classes = match connection.request(&["CONFIG", "GET", EVENTS_OPTION]) {
        Ok(Frame::List(pair)) => match pair.into_iter().nth(1) {
            Some(Frame::Text(classes)) => String::from_utf8_lossy(&classes).into_owned(),
            _ => String::new(),
        },
        Ok(_) => return Err(Error::unexpected("CONFIG GET")),
        Err(Error::Reply(reply)) if reply.is_unavailable() => {
            warn!(
                %reply,
                "cannot check that the server announces changes: `{EVENTS_OPTION}` should be `KEA`"
            );
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if covers_all_changes(&classes, query) {
        return Ok(());
    }
    Err(Error::unusable(format_args!(
        "the server cannot track keys for this client, and does not announce their changes either \
         (`{EVENTS_OPTION}` is `{classes}`): run `CONFIG SET {EVENTS_OPTION} KEA`, or leave it to polling"
    )))
}

/// Whether these classes of events tell of every change: `K` makes keyspace events of them, `A`
/// stands for all, `g` for commands on any type, `x` for expiry, `e` for eviction.
fn covers_all_changes(classes: &str, query: &Query) -> bool {
    let needed = match query {
        Query::Key { .. } | Query::Prefix(_) => "g$xe",
        Query::Hash { .. } => "ghxe",
    };
    let has = |class| classes.contains(class);
    has('K') && (has('A') || needed.chars().all(has))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{command, key, prefix, watch};
    use guest_sdk::{Failure, FailureKind, RealtimeWatch, Script};

    const OLD: &str = "-ERR unknown command `HELLO`\r\n";
    const CONFIG: &str = "CONFIG GET notify-keyspace-events";
    const CHANNEL: &str = "$18\r\n__keyspace@0__:app\r\n";

    /// A server before Redis 6.
    fn old() -> Script {
        Script::new().expect(command("HELLO 3")).reply(OLD)
    }

    fn config(classes: &str) -> Script {
        let length = classes.len();
        let answer = format!("*2\r\n$22\r\nnotify-keyspace-events\r\n${length}\r\n{classes}\r\n");
        Script::new().expect(command(CONFIG)).reply(answer)
    }

    fn subscribed(script: Script) -> Script {
        script
            .expect(command("SUBSCRIBE __keyspace@0__:app"))
            .reply(format!("*3\r\n$9\r\nsubscribe\r\n{CHANNEL}:1\r\n"))
    }

    fn message(operation: &str) -> String {
        format!("*3\r\n$7\r\nmessage\r\n{CHANNEL}${}\r\n{operation}\r\n", operation.len())
    }

    /// What the watch makes of what comes after the subscription.
    fn next(then: impl FnOnce(Script) -> Script) -> Result<Event, Failure> {
        watch(key(), [old(), then(subscribed(config("AKE")))]).unwrap().next()
    }

    #[test]
    fn every_message_says_that_the_value_may_have_changed() {
        assert_eq!(next(|script| script.reply(message("set"))), Ok(Event::Dirty));
    }

    #[test]
    fn messages_that_have_arrived_are_one_event() {
        let burst = message("del") + &message("set");
        let script = subscribed(config("AKE"))
            .reply(burst)
            .silence()
            .expect(command("PING"))
            .reply("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        let mut source = watch(key(), [old(), script]).unwrap();
        assert_eq!(source.next(), Ok(Event::Dirty));
        assert_eq!(source.next(), Ok(Event::Alive));
    }

    #[test]
    fn silence_is_tested_and_a_change_that_comes_before_the_answer_counts() {
        let ping = |script: Script| script.silence().expect(command("PING"));
        assert_eq!(next(|script| ping(script).reply(message("set"))), Ok(Event::Dirty));

        let dead = next(|script| ping(script).silence()).unwrap_err();
        assert!(dead.message.contains("no answer to PING within 5s"), "{dead}");

        let closed = Failure::transient("db:6379: the other side closed the connection");
        assert_eq!(next(|script| script), Err(closed));
    }

    #[test]
    fn a_prefix_is_subscribed_to_as_a_pattern_in_its_database() {
        let script = Script::new()
            .expect(command("SELECT 2"))
            .reply("+OK\r\n")
            .expect(command(CONFIG))
            .reply("*2\r\n$22\r\nnotify-keyspace-events\r\n$5\r\ng$xeK\r\n")
            .expect(command("PSUBSCRIBE __keyspace@2__:app:*"))
            .reply("*3\r\n$10\r\npsubscribe\r\n$1\r\nx\r\n:1\r\n")
            .reply("*4\r\n$8\r\npmessage\r\n$1\r\nx\r\n$1\r\ny\r\n$3\r\nset\r\n");
        let settings = crate::Settings { database: Some(2), ..prefix() };
        assert_eq!(watch(settings, [old(), script]).unwrap().next(), Ok(Event::Dirty));
    }

    #[test]
    fn a_user_who_may_not_track_gets_notifications_on_a_connection_of_their_own() {
        let script = Script::new()
            .expect(command("HELLO 3"))
            .reply("%1\r\n+proto\r\n:3\r\n")
            .expect(command("CLIENT TRACKING ON BCAST PREFIX app"))
            .reply("-NOPERM this user has no permissions to run the 'client|tracking' command\r\n");
        watch(key(), [script, subscribed(config("AKE"))]).unwrap();
    }

    #[test]
    fn a_server_that_announces_nothing_says_what_to_set() {
        for classes in ["", "Ex", "K$"] {
            let failure = watch(key(), [old(), config(classes)]).err().unwrap();
            assert_eq!(failure.kind, FailureKind::Permanent);
            let advice = "run `CONFIG SET notify-keyspace-events KEA`";
            assert!(failure.message.contains(advice), "{failure}");
        }
    }

    #[test]
    fn where_the_configuration_is_forbidden_the_watch_tries_its_luck() {
        let forbidden = Script::new()
            .expect(command(CONFIG))
            .reply("-NOPERM this user has no permissions to run the 'config|get' command\r\n");
        watch(key(), [old(), subscribed(forbidden)]).unwrap();
    }

    #[test]
    fn what_must_be_announced_depends_on_what_is_read() {
        let string = Query::Key { name: "app".into(), media_type: None };
        let hash = Query::Hash { name: "app".into() };
        for (classes, for_string, for_hash) in [
            ("AKE", true, true),
            ("AK", true, true),
            ("AE", false, false),
            ("g$xeK", true, false),
            ("ghxeK", false, true),
            ("$K", false, false),
        ] {
            assert_eq!(covers_all_changes(classes, &string), for_string, "{classes}");
            assert_eq!(covers_all_changes(classes, &hash), for_hash, "{classes}");
        }
    }
}
