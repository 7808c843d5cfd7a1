//! Watching by keyspace notifications, for servers and users that cannot track: they say which key
//! changed, not to what, and only if the server is configured to.

use crate::{
    connection::{Link, Server},
    error::Error,
    frame::Frame,
    subject::Subject,
};
use guest_sdk::{Event, Failure, tracing::warn};
use std::time::Duration;

/// A connection that is subscribed to the changes.
#[derive(Debug)]
pub(crate) struct Keyspace {
    link: Link,
}

const SETTING: &str = "notify-keyspace-events";

impl Keyspace {
    pub(crate) fn start(server: &Server, subject: &Subject) -> Result<Self, Error> {
        let mut link = server.log_in()?;
        check(&mut link, subject)?;
        let (command, name) = match subject {
            Subject::Key { name, .. } | Subject::Hash { name } => ("SUBSCRIBE", name.clone()),
            Subject::Prefix(prefix) => ("PSUBSCRIBE", prefix.pattern()),
        };
        let channel = format!("__keyspace@{}__:{name}", server.address.database);
        link.request(&[command, &channel])?;
        Ok(Self { link })
    }

    /// Waits for the next change.
    pub(crate) fn next(&mut self, keepalive: Duration) -> Result<Event, Error> {
        let first = match self.link.receive(keepalive)? {
            Some(frame) => frame,
            None => self.link.ping()?,
        };
        let mut changed = is_change(first)?;
        while let Some(frame) = self.link.buffered()? {
            changed |= is_change(frame)?;
        }
        Ok(if changed { Event::Dirty } else { Event::Alive })
    }
}

/// Whether the frame announces a change; the others confirm something.
fn is_change(frame: Frame) -> Result<bool, Error> {
    match frame {
        Frame::List(items) => Ok(match items.first() {
            Some(Frame::Text(kind)) => kind == b"message" || kind == b"pmessage",
            _ => false,
        }),
        Frame::Error(line) => {
            Err(Error::lost(Failure::transient(format_args!("the subscription ended: {line}"))))
        }
        _ => Ok(false),
    }
}

/// A subscription that nothing is ever sent to looks like a source that never changes, so this makes
/// sure that the server announces all that can change the value.
fn check(link: &mut Link, subject: &Subject) -> Result<(), Error> {
    let classes = match link.request(&["CONFIG", "GET", SETTING]) {
        Ok(Frame::List(pair)) => match pair.into_iter().nth(1) {
            Some(Frame::Text(classes)) => String::from_utf8_lossy(&classes).into_owned(),
            _ => String::new(),
        },
        Ok(_) => return Err(Error::unexpected("CONFIG GET")),
        Err(Error::Refused(refusal)) if refusal.is_unavailable() => {
            warn!(
                %refusal,
                "cannot check that the server announces changes: `{SETTING}` should be `KEA`"
            );
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if suffices(&classes, subject) {
        return Ok(());
    }
    Err(Error::unusable(format_args!(
        "the server cannot track keys for this client, and does not announce their changes either \
         (`{SETTING}` is `{classes}`): run `CONFIG SET {SETTING} KEA`, or leave it to polling"
    )))
}

/// Whether these classes of events tell of every change: `K` makes keyspace events of them, `A`
/// stands for all, `g` for commands on any type, `x` for expiry, `e` for eviction.
fn suffices(classes: &str, subject: &Subject) -> bool {
    let needed = match subject {
        Subject::Key { .. } | Subject::Prefix(_) => "g$xe",
        Subject::Hash { .. } => "ghxe",
    };
    let has = |class| classes.contains(class);
    has('K') && (has('A') || needed.chars().all(has))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{command, key, prefix, watch};
    use guest_sdk::{FailureKind, RealtimeWatch, Script};

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

    fn next(script: Script) -> Result<Event, Failure> {
        watch(key(), [old(), subscribed(config("AKE")).clone_with(script)]).unwrap().next()
    }

    #[test]
    fn a_server_that_cannot_track_announces_changes_to_subscribers() {
        assert_eq!(next(|s| s.reply(message("set"))), Ok(Event::Dirty));
    }
}
