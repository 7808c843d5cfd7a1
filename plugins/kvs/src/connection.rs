//! RESP connection: requests, replies and push messages.

use crate::{
    address::{Address, Login},
    error::{Error, ErrorReply},
    resp::{
        self, Decoder, Frame, MAX_LINE_BYTES, MAX_NESTING_DEPTH, MAX_NON_VALUE_FRAME_BYTES,
        MAX_VALUE_FRAME_BYTES, Malformed,
    },
};
use guest_sdk::{Connection, Failure, Host};
use std::{
    collections::VecDeque,
    io::Write,
    time::{Duration, Instant},
};

/// Server address and timeout, with the host handle to connect.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) address: Address,
    /// Timeout of the connection attempt and of each reply.
    pub(crate) timeout: Duration,
}

impl Server {
    /// Connects without sending a command.
    pub(crate) fn dial(&self) -> Result<RespConnection, Error> {
        let connected = self.host.connect(&self.address.target, self.timeout);
        let mut stream = connected.map_err(|error| Error::Unreachable(error.into()))?;
        stream.set_timeout(self.timeout);
        Ok(RespConnection {
            stream,
            timeout: self.timeout,
            decoder: Decoder::default(),
            pushes: VecDeque::new(),
            pushed_bytes: 0,
        })
    }

    /// Connects, authenticates and selects the database. The connection uses RESP2, which every server
    /// supports.
    pub(crate) fn log_in(&self) -> Result<RespConnection, Error> {
        let mut connection = self.dial()?;
        if let Some(Login { user, password }) = &self.address.login {
            let command: Vec<_> =
                ["AUTH"].into_iter().chain(user.as_deref()).chain([password.as_str()]).collect();
            connection.request(&command).map_err(Error::into_login_error)?;
        }
        self.select(&mut connection)?;
        Ok(connection)
    }

    /// Selects the database, unless it is 0, the default of a new connection.
    pub(crate) fn select(&self, connection: &mut RespConnection) -> Result<(), Error> {
        match self.address.database {
            0 => Ok(()),
            database => {
                connection.request(&["SELECT", &database.to_string()]).map(drop).map_err(|error| {
                    error.explain_reply(|reply| {
                        let failure =
                            || Failure::permanent(format!("database {database}: {reply}"));
                        reply.is_generic().then(failure)
                    })
                })
            }
        }
    }
}

/// Commands whose replies contain values. Their replies may be larger than those of other commands.
const VALUE_COMMANDS: [&[u8]; 3] = [b"GET", b"HGETALL", b"MGET"];

/// Connection to a Redis-compatible server. After [`Error::Lost`] it is unusable.
#[derive(Debug)]
pub(crate) struct RespConnection {
    stream: Connection,
    timeout: Duration,
    decoder: Decoder,
    /// Push messages that arrived before a reply, not yet returned by [`buffered`](Self::buffered).
    pushes: VecDeque<Frame>,
    /// Memory size of `pushes`, in bytes.
    pushed_bytes: usize,
}

impl RespConnection {
    /// Sends a command and waits for its reply. Push messages before the reply are queued for
    /// [`buffered`](Self::buffered).
    pub(crate) fn request<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Result<Frame, Error> {
        let reply = self.request_reply(command);
        self.decoder.limit = MAX_NON_VALUE_FRAME_BYTES;
        reply
    }

    fn request_reply<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Result<Frame, Error> {
        self.send(command)?;
        if command.first().is_some_and(|name| VALUE_COMMANDS.contains(&name.as_ref())) {
            self.decoder.limit = MAX_VALUE_FRAME_BYTES;
        }
        let until = Instant::now() + self.timeout;
        loop {
            match self.receive(until.saturating_duration_since(Instant::now()))? {
                Some(push @ Frame::Push(_)) => self.queue_push(push, until)?,
                Some(Frame::Error(line)) => return Err(Error::Reply(ErrorReply(line))),
                Some(reply) => return Ok(reply),
                None => return Err(self.reply_timeout(command)),
            }
        }
    }

    /// Receives and queues the push messages that have arrived since the last request. A pending reply is an
    /// error: it would be mistaken for the reply to the next request, and so on for all later requests.
    pub(crate) fn receive_pending(&mut self) -> Result<(), Error> {
        let until = Instant::now() + self.timeout;
        while let Some(frame) = self.receive(Duration::ZERO)? {
            match frame {
                push @ Frame::Push(_) => self.queue_push(push, until)?,
                _ => return Err(Error::unsolicited()),
            }
        }
        Ok(())
    }

    /// Queues a push message while a reply is pending, up to a size limit and until the deadline.
    fn queue_push(&mut self, push: Frame, until: Instant) -> Result<(), Error> {
        self.pushed_bytes += push.size();
        if self.pushed_bytes > MAX_NON_VALUE_FRAME_BYTES || Instant::now() >= until {
            return Err(Error::lost(Failure::transient(
                "no reply: the server sends too many push messages",
            )));
        }
        self.pushes.push_back(push);
        Ok(())
    }

    fn send<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Result<(), Error> {
        self.stream.write_all(&resp::encode(command)).map_err(Error::lost)
    }

    /// Receives the next frame: a reply or a push message. Returns `None` if no data arrives within `wait`.
    /// After the first byte of a frame, the connection timeout applies instead of `wait`.
    pub(crate) fn receive(&mut self, wait: Duration) -> Result<Option<Frame>, Error> {
        let mut until = None;
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(Some(frame));
            }
            let begun = !self.decoder.is_empty();
            if begun && until.is_none() {
                until = Some(Instant::now() + self.timeout);
            }
            let wait = until.map_or(wait, |at| at.saturating_duration_since(Instant::now()));
            match self.stream.poll(wait).map_err(Error::lost)? {
                Some(bytes) => self.decoder.feed(&bytes),
                None if begun => {
                    return Err(Error::lost(Failure::transient("incomplete reply")));
                }
                None => return Ok(None),
            }
        }
    }

    /// Returns the next frame that has already arrived, without waiting.
    pub(crate) fn buffered(&mut self) -> Result<Option<Frame>, Error> {
        match self.pushes.pop_front() {
            Some(push) => {
                self.pushed_bytes -= push.size();
                Ok(Some(push))
            }
            None => Ok(self.decoder.next()?),
        }
    }

    /// Checks with `PING` that the server responds. An error reply is a response too.
    pub(crate) fn ping(&mut self) -> Result<(), Error> {
        match self.request(&["PING"]) {
            Ok(_) | Err(Error::Reply(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends `PING` on a connection with RESP2 subscriptions and returns the next frame. In this mode
    /// replies and messages have the same type, so the frame can be either.
    pub(crate) fn ping_subscribed(&mut self) -> Result<Frame, Error> {
        self.send(&["PING"])?;
        self.receive(self.timeout)?.ok_or_else(|| self.reply_timeout(&["PING"]))
    }

    /// Returns the error for a missing reply.
    fn reply_timeout<A: AsRef<[u8]>>(&self, command: &[A]) -> Error {
        let name = command.first().map(|name| String::from_utf8_lossy(name.as_ref()));
        Error::lost(Failure::transient(format_args!(
            "no reply to {} within {:?}: the server hangs or the connection is half-open",
            name.unwrap_or_default(),
            self.timeout,
        )))
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Error::lost(match malformed {
            Malformed::NotResp => Failure::permanent("not a Redis server (unexpected reply)"),
            Malformed::TooLarge => Failure::permanent(format_args!(
                "the reply is too large (limits: {} MiB for values, {} MiB for other replies, {} KiB for a \
                 line, {MAX_NESTING_DEPTH} levels of nesting)",
                MAX_VALUE_FRAME_BYTES >> 20,
                MAX_NON_VALUE_FRAME_BYTES >> 20,
                MAX_LINE_BYTES >> 10,
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{command, settings};
    use guest_sdk::{FailureKind, FakeHost, Script};

    fn log_in(url: &str, script: Script) -> Result<RespConnection, Failure> {
        let fake = FakeHost::new();
        fake.next_connection(script);
        let settings = crate::Settings { url: url.into(), ..settings() };
        let server = Server {
            host: fake.host(),
            address: Address::new(&settings).unwrap(),
            timeout: Duration::from_secs(5),
        };
        server.log_in().map_err(|error| error.into_failure(&server.address.target))
    }

    #[test]
    fn log_in_sends_nothing_by_default() {
        log_in("redis://db", Script::new()).unwrap();
    }

    #[test]
    fn log_in_authenticates_and_selects_database() {
        for (url, auth) in [("redis://:pw@db/3", "AUTH pw"), ("redis://me:pw@db/3", "AUTH me pw")] {
            let script = Script::new()
                .expect(command(auth))
                .reply("+OK\r\n")
                .expect(command("SELECT 3"))
                .reply("+OK\r\n");
            log_in(url, script).unwrap();
        }
    }

    #[test]
    fn failed_authentication_is_denied() {
        for reply in [
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
            "-ERR invalid password\r\n",
            "-ERR Client sent AUTH, but no password is set\r\n",
        ] {
            let script = Script::new().expect(command("AUTH pw")).reply(reply);
            let failure = log_in("redis://:pw@db", script).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Denied, "{failure}");
        }
    }

    #[test]
    fn select_failure_names_database() {
        let script =
            Script::new().expect(command("SELECT 99")).reply("-ERR DB index is out of range\r\n");
        let failure = log_in("redis://db/99", script).unwrap_err();
        assert_eq!(
            failure,
            Failure::permanent("db:6379: database 99: ERR DB index is out of range")
        );
    }

    #[test]
    fn missing_or_incomplete_reply_is_reported() {
        let silent = Script::new().expect(command("SELECT 1")).silence();
        let failure = log_in("redis://db/1", silent).unwrap_err();
        assert!(failure.message.starts_with("db:6379: no reply to SELECT within 5s"), "{failure}");

        let half = Script::new().expect(command("SELECT 1")).reply("+O").silence();
        let failure = log_in("redis://db/1", half).unwrap_err();
        assert_eq!(failure, Failure::transient("db:6379: incomplete reply"));
    }

    #[test]
    fn push_queue_is_bounded() {
        let long = format!(
            ">1\r\n${0}\r\n{1}\r\n",
            MAX_NON_VALUE_FRAME_BYTES / 2,
            "a".repeat(MAX_NON_VALUE_FRAME_BYTES / 2)
        );
        let script = Script::new().expect(command("SELECT 1"));
        let endless = (0..2).fold(script, |script, _| script.reply(&long));
        let failure = log_in("redis://db/1", endless.reply("+OK\r\n")).unwrap_err();
        assert!(failure.message.contains("too many push messages"), "{failure}");
        assert_eq!(failure.kind, FailureKind::Transient { retry_after: None });
    }

    /// A surplus reply would shift the assignment of all later replies to requests.
    #[test]
    fn unsolicited_reply_ends_connection() {
        let script = Script::new().expect(command("SELECT 1")).reply("+OK\r\n+surplus\r\n");
        let mut connection = log_in("redis://db/1", script).unwrap();
        let Err(Error::Lost(failure)) = connection.receive_pending() else {
            panic!("the connection is not lost")
        };
        assert_eq!(failure, Failure::transient("unsolicited reply"));
    }

    #[test]
    fn other_protocol_is_permanent_failure() {
        let http = Script::new().expect(command("SELECT 1")).reply("HTTP/1.1 400 Bad Request\r\n");
        let failure = log_in("redis://db/1", http).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent);
    }
}
