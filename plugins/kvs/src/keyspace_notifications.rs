//! Watch with keyspace notifications: the fallback for servers and users without client tracking.
//!
//! A notification contains the key but not the value. The server sends notifications only if
//! `notify-keyspace-events` enables them.

use crate::{
    connection::{RespConnection, Server},
    error::Error,
    query::Query,
    resp::Frame,
};
use guest_sdk::{Event, tracing::warn};
use std::time::Duration;

/// Connection with a subscription to the changes of the key or prefix.
#[derive(Debug)]
pub(crate) struct KeyspaceNotifications {
    connection: RespConnection,
}

/// Server option that enables keyspace notifications.
const EVENTS_OPTION: &str = "notify-keyspace-events";

impl KeyspaceNotifications {
    /// Checks the server option and subscribes to the changes.
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

    /// Waits for the next notification. Sends `PING` after `keepalive` without one.
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

/// Returns whether the frame is a notification. Other frames are replies, e.g. to `PING`.
fn is_change(frame: &Frame) -> bool {
    let Frame::List(items) = frame else { return false };
    matches!(items.first(), Some(Frame::Text(kind)) if kind == b"message" || kind == b"pmessage")
}

/// Verifies that the server sends notifications for all commands that can change the value. Without them, a
/// subscription is silent and looks like an unchanged source.
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
                option = EVENTS_OPTION,
                required = "KEA",
                "cannot verify keyspace notifications"
            );
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if covers_all_changes(&classes, query) {
        return Ok(());
    }
    Err(Error::unusable(format_args!(
        "client tracking is unavailable and keyspace notifications are disabled (`{EVENTS_OPTION}` is \
         `{classes}`): run `CONFIG SET {EVENTS_OPTION} KEA`, or let the host poll"
    )))
}

/// Returns whether the event classes cover every change of the value. `K` enables the keyspace channel, `A`
/// is an alias for all classes, `g` are generic commands such as `DEL`, `$` string commands, `h` hash
/// commands, `x` expired keys, `e` evicted keys.
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

    const UNKNOWN_COMMAND: &str = "-ERR unknown command `HELLO`\r\n";
    const CONFIG: &str = "CONFIG GET notify-keyspace-events";
    const CHANNEL: &str = "$18\r\n__keyspace@0__:app\r\n";

    /// Returns the script of a server before Redis 6.
    fn old() -> Script {
        Script::new().expect(command("HELLO 3")).reply(UNKNOWN_COMMAND)
    }

    fn config(classes: &str) -> Script {
        let length = classes.len();
        let reply = format!("*2\r\n$22\r\nnotify-keyspace-events\r\n${length}\r\n{classes}\r\n");
        Script::new().expect(command(CONFIG)).reply(reply)
    }

    fn subscribed(script: Script) -> Script {
        script
            .expect(command("SUBSCRIBE __keyspace@0__:app"))
            .reply(format!("*3\r\n$9\r\nsubscribe\r\n{CHANNEL}:1\r\n"))
    }

    fn message(operation: &str) -> String {
        format!("*3\r\n$7\r\nmessage\r\n{CHANNEL}${}\r\n{operation}\r\n", operation.len())
    }

    /// Returns the first event of a watch. `then` extends the script after the subscription.
    fn next(then: impl FnOnce(Script) -> Script) -> Result<Event, Failure> {
        watch(key(), [old(), then(subscribed(config("AKE")))]).unwrap().next()
    }

    #[test]
    fn message_is_dirty() {
        assert_eq!(next(|script| script.reply(message("set"))), Ok(Event::Dirty));
    }

    #[test]
    fn buffered_messages_are_coalesced() {
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
    fn silence_triggers_ping() {
        let ping = |script: Script| script.silence().expect(command("PING"));
        assert_eq!(next(|script| ping(script).reply(message("set"))), Ok(Event::Dirty));

        let dead = next(|script| ping(script).silence()).unwrap_err();
        assert!(dead.message.contains("no reply to PING within 5s"), "{dead}");

        let closed = Failure::transient("db:6379: connection closed by the server");
        assert_eq!(next(|script| script), Err(closed));
    }

    #[test]
    fn prefix_uses_pattern_subscription() {
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

    /// The fallback opens a new connection, because the first one uses RESP3.
    #[test]
    fn denied_tracking_falls_back_to_notifications() {
        let script = Script::new()
            .expect(command("HELLO 3"))
            .reply("%1\r\n+proto\r\n:3\r\n")
            .expect(command("CLIENT TRACKING ON BCAST PREFIX app"))
            .reply("-NOPERM this user has no permissions to run the 'client|tracking' command\r\n");
        watch(key(), [script, subscribed(config("AKE"))]).unwrap();
    }

    #[test]
    fn disabled_notifications_fail_with_advice() {
        for classes in ["", "Ex", "K$"] {
            let failure = watch(key(), [old(), config(classes)]).err().unwrap();
            assert_eq!(failure.kind, FailureKind::Permanent);
            let advice = "run `CONFIG SET notify-keyspace-events KEA`";
            assert!(failure.message.contains(advice), "{failure}");
        }
    }

    #[test]
    fn denied_config_get_still_subscribes() {
        let forbidden = Script::new()
            .expect(command(CONFIG))
            .reply("-NOPERM this user has no permissions to run the 'config|get' command\r\n");
        watch(key(), [old(), subscribed(forbidden)]).unwrap();
    }

    #[test]
    fn required_event_classes_depend_on_query() {
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
