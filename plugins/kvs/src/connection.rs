//! Connections to the server: requests and their answers, and what the server says in between.

use crate::{
    address::{Address, Login},
    error::{Error, ErrorReply},
    resp::{self, Decoder, Frame, MAX_VALUE_FRAME_BYTES, MAX_NON_VALUE_FRAME_BYTES, Malformed},
};
use guest_sdk::{Connection, Failure, Host};
use std::{
    collections::VecDeque,
    io::Write,
    time::{Duration, Instant},
};

/// The server, and how to reach it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) address: Address,
    /// For connecting, and for each answer.
    pub(crate) timeout: Duration,
}

impl Server {
    /// Connects, and says nothing yet.
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

    /// Connects, and is then allowed to read the database. Speaks RESP2, as every server does.
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

    /// Turns to the database, unless it is the one that every connection begins with.
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

/// What is answered with values.
const VALUE_COMMANDS: [&[u8]; 3] = [b"GET", b"HGETALL", b"MGET"];

/// One connection. After [`Error::Lost`] it is of no use any more.
#[derive(Debug)]
pub(crate) struct RespConnection {
    stream: Connection,
    timeout: Duration,
    decoder: Decoder,
    /// What the server said by itself while an answer was awaited.
    pushes: VecDeque<Frame>,
    /// What those take of memory.
    pushed_bytes: usize,
}

impl RespConnection {
    /// Sends a command and waits for its answer. What comes before the answer is kept for
    /// [`buffered`](Self::buffered).
    pub(crate) fn request<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Result<Frame, Error> {
        let answer = self.request_reply(command);
        self.decoder.limit = MAX_NON_VALUE_FRAME_BYTES;
        answer
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
                Some(answer) => return Ok(answer),
                None => return Err(self.reply_timeout(command)),
            }
        }
    }

    /// Takes in what has arrived since it was used last. An answer that nobody asked for would be taken for
    /// the next one, and that one for the one after it.
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

    /// Keeps what the server says instead of an answer; it may not do so for ever.
    fn queue_push(&mut self, push: Frame, until: Instant) -> Result<(), Error> {
        self.pushed_bytes += push.size();
        if self.pushed_bytes > MAX_NON_VALUE_FRAME_BYTES || Instant::now() >= until {
            return Err(Error::lost(Failure::transient(
                "the server announces so many changes that it gives no answer",
            )));
        }
        self.pushes.push_back(push);
        Ok(())
    }

    fn send<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Result<(), Error> {
        self.stream.write_all(&resp::encode(command)).map_err(Error::lost)
    }

    /// The next frame, whatever it is; `None` when nothing comes within `wait`. One that has begun
    /// may take the timeout to arrive.
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
                    return Err(Error::lost(Failure::transient("an answer broke off half-way")));
                }
                None => return Ok(None),
            }
        }
    }

    /// What has arrived already, without waiting for more.
    pub(crate) fn buffered(&mut self) -> Result<Option<Frame>, Error> {
        match self.pushes.pop_front() {
            Some(push) => {
                self.pushed_bytes -= push.size();
                Ok(Some(push))
            }
            None => Ok(self.decoder.next()?),
        }
    }

    /// Makes sure that the other side is there. A reply comes from there too.
    pub(crate) fn ping(&mut self) -> Result<(), Error> {
        match self.request(&["PING"]) {
            Ok(_) | Err(Error::Reply(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The same on a connection with subscriptions, where answers and announcements look alike:
    /// gives whatever comes next.
    pub(crate) fn ping_subscribed(&mut self) -> Result<Frame, Error> {
        self.send(&["PING"])?;
        self.receive(self.timeout)?.ok_or_else(|| self.reply_timeout(&["PING"]))
    }

    /// What an answer that does not come means.
    fn reply_timeout<A: AsRef<[u8]>>(&self, command: &[A]) -> Error {
        let name = command.first().map(|name| String::from_utf8_lossy(name.as_ref()));
        Error::lost(Failure::transient(format_args!(
            "no answer to {} within {:?}: the server hangs, or the connection is half-open",
            name.unwrap_or_default(),
            self.timeout,
        )))
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Error::lost(match malformed {
            Malformed::NotResp => {
                Failure::permanent("what answers there does not speak the Redis protocol")
            }
            Malformed::TooLarge => Failure::permanent(format_args!(
                "an answer takes more memory than it may (values {} MiB, all else {}), has too long a line, or \
                 goes too deep",
                MAX_VALUE_FRAME_BYTES >> 20,
                MAX_NON_VALUE_FRAME_BYTES >> 20,
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
    fn nothing_is_said_to_a_server_that_needs_no_words() {
        log_in("redis://db", Script::new()).unwrap();
    }

    #[test]
    fn the_user_and_the_database_are_named_when_there_are_any() {
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
    fn a_refused_password_is_denied_whatever_the_server_calls_it() {
        for answer in [
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
            "-ERR invalid password\r\n",
            "-ERR Client sent AUTH, but no password is set\r\n",
        ] {
            let script = Script::new().expect(command("AUTH pw")).reply(answer);
            let failure = log_in("redis://:pw@db", script).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Denied, "{failure}");
        }
    }

    #[test]
    fn a_database_that_is_not_there_is_named() {
        let script =
            Script::new().expect(command("SELECT 99")).reply("-ERR DB index is out of range\r\n");
        let failure = log_in("redis://db/99", script).unwrap_err();
        assert_eq!(
            failure,
            Failure::permanent("db:6379: database 99: ERR DB index is out of range")
        );
    }

    #[test]
    fn silence_and_half_an_answer_say_what_they_mean() {
        let silent = Script::new().expect(command("SELECT 1")).silence();
        let failure = log_in("redis://db/1", silent).unwrap_err();
        assert!(failure.message.starts_with("db:6379: no answer to SELECT within 5s"), "{failure}");

        let half = Script::new().expect(command("SELECT 1")).reply("+O").silence();
        let failure = log_in("redis://db/1", half).unwrap_err();
        assert_eq!(failure, Failure::transient("db:6379: an answer broke off half-way"));
    }

    #[test]
    fn announcements_that_never_end_do_not_fill_the_memory() {
        let long = format!(">1\r\n${0}\r\n{1}\r\n", MAX_NON_VALUE_FRAME_BYTES / 2, "a".repeat(MAX_NON_VALUE_FRAME_BYTES / 2));
        let script = Script::new().expect(command("SELECT 1"));
        let endless = (0..2).fold(script, |script, _| script.reply(&long));
        let failure = log_in("redis://db/1", endless.reply("+OK\r\n")).unwrap_err();
        assert!(failure.message.contains("announces so many changes"), "{failure}");
        assert_eq!(failure.kind, FailureKind::Transient { retry_after: None });
    }

    /// Otherwise each answer would be taken for the one to the next question, for ever.
    #[test]
    fn an_answer_too_many_ends_the_connection() {
        let script = Script::new().expect(command("SELECT 1")).reply("+OK\r\n+surplus\r\n");
        let mut connection = log_in("redis://db/1", script).unwrap();
        let Err(Error::Lost(failure)) = connection.receive_pending() else { panic!("it is not lost") };
        assert_eq!(failure, Failure::transient("an answer that nobody asked for"));
    }

    #[test]
    fn something_else_on_that_port_is_recognised() {
        let http = Script::new().expect(command("SELECT 1")).reply("HTTP/1.1 400 Bad Request\r\n");
        let failure = log_in("redis://db/1", http).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent);
    }
}
