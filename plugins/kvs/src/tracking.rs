//! Watching by client-side caching: the server announces each change of a key on the connection on
//! which the key is then read, so a change costs one round trip (Redis 6 and later, RESP3).
//!
//! # Why no change is lost
//!
//! An announcement is noted in [`Stale`] before anything else is done with it, also when it arrives
//! in the middle of an answer, and a note is taken away only by the read that starts after it. The
//! last announcement is thus always followed by a read. One that was made before the answer, but was
//! read with it, leads to a read that was not needed; the host sees that the value is the same.

use crate::{
    address::Login,
    connection::{Link, Server},
    error::{Error, Refusal},
    frame::Frame,
    prefix::Entries,
    subject::{Subject, json},
};
use guest_sdk::{Event, Failure, Snapshot};
use std::{collections::BTreeSet, mem, time::Duration};

/// A connection on which changes are announced.
#[derive(Debug)]
pub(crate) struct Tracking {
    link: Link,
    stale: Stale,
    /// For a prefix, what is known of it: then only what has changed is read again.
    entries: Option<Entries>,
}

/// What was announced, and has not been read since.
#[derive(Debug, Default)]
enum Stale {
    #[default]
    Nothing,
    Keys(BTreeSet<Vec<u8>>),
    Everything,
}

impl Tracking {
    /// Starts to watch; or gives the server's reason why it cannot be done in this way.
    pub(crate) fn start(server: &Server, subject: &Subject) -> Result<Result<Self, Refusal>, Error> {
        let mut link = server.dial()?;
        let mut hello = vec!["HELLO", "3"];
        if let Some(Login { user, password }) = &server.address.login {
            hello.extend(["AUTH", user.as_deref().unwrap_or("default"), password]);
        }
        if let Err(refusal) = available(link.request(&hello))? {
            return Ok(Err(refusal));
        }
        server.select(&mut link)?;
        let track = ["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", subject.name()];
        Ok(available(link.request(&track))?
            .map(|_| Self { link, stale: Stale::Nothing, entries: None }))
    }

    /// Waits for the next change, and reads the value.
    pub(crate) fn next(&mut self, subject: &Subject, keepalive: Duration) -> Result<Event, Error> {
        self.note_buffered(subject)?;
        if matches!(self.stale, Stale::Nothing) {
            match self.link.receive(keepalive)? {
                Some(frame) => self.note(frame, subject)?,
                None => drop(self.link.request(&["PING"])?),
            }
            self.note_buffered(subject)?;
        }
        let stale = mem::take(&mut self.stale);
        if matches!(stale, Stale::Nothing) {
            // A foreign change or a good answer: either way the connection works.
            return Ok(Event::Alive);
        }
        match self.read(stale, subject) {
            Ok(Some(snapshot)) => Ok(Event::Changed(snapshot)),
            Err(lost @ Error::Lost(_)) => Err(lost),
            // No value, or none of use: for the host to find out and to report.
            Ok(None) | Err(_) => Ok(Event::Dirty),
        }
    }

    fn read(&mut self, stale: Stale, subject: &Subject) -> Result<Option<Snapshot>, Error> {
        let Subject::Prefix(prefix) = subject else { return subject.read(&mut self.link) };
        // Taken, so that after a failure everything is read anew.
        let entries = match (self.entries.take(), stale) {
            (Some(mut entries), Stale::Keys(keys)) => {
                prefix.refresh(&mut self.link, keys, &mut entries)?;
                entries
            }
            _ => prefix.read(&mut self.link)?,
        };
        json(self.entries.insert(entries))
    }

    /// Notes what has arrived already, so that many changes lead to one read.
    fn note_buffered(&mut self, subject: &Subject) -> Result<(), Error> {
        while let Some(frame) = self.link.buffered()? {
            self.note(frame, subject)?;
        }
        Ok(())
    }

    fn note(&mut self, frame: Frame, subject: &Subject) -> Result<(), Error> {
        let Frame::Push(items) = frame else {
            return Err(Error::lost(Failure::transient("an answer that nobody asked for")));
        };
        let mut items = items.into_iter();
        if items.next() != Some(Frame::Text(b"invalidate".to_vec())) {
            return Ok(());
        }
        match items.next() {
            Some(Frame::List(keys)) => self.stale.add(keys.into_iter().filter_map(|key| match key {
                Frame::Text(key) if subject.concerns(&key) => Some(key),
                _ => None,
            })),
            // The whole database was emptied.
            _ => self.stale = Stale::Everything,
        }
        Ok(())
    }
}

impl Stale {
    fn add(&mut self, keys: impl Iterator<Item = Vec<u8>>) {
        for key in keys {
            match self {
                Self::Nothing => *self = Self::Keys(BTreeSet::from([key])),
                Self::Keys(keys) => drop(keys.insert(key)),
                Self::Everything => {}
            }
        }
    }
}

/// Sets apart the refusals which mean that the server, or this user, cannot do it.
fn available(answer: Result<Frame, Error>) -> Result<Result<Frame, Refusal>, Error> {
    match answer {
        Ok(frame) => Ok(Ok(frame)),
        Err(Error::Refused(refusal)) if refusal.is_unavailable() => Ok(Err(refusal)),
        Err(error) => Err(error),
    }
}
