//! All keys that begin alike, as one value.

use crate::{
    connection::RespConnection,
    error::Error,
    resp::{Frame, MAX_VALUE_FRAME_BYTES, MAX_NON_VALUE_FRAME_BYTES},
    query::require_utf8,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Names and values, sorted by name.
pub(crate) type Entries = BTreeMap<String, String>;

/// What the keys begin with, and how many there may be.
#[derive(Debug)]
pub(crate) struct Prefix {
    prefix: String,
    max_keys: usize,
    /// How long the keys are looked for, and their values.
    timeout: Duration,
}

/// How many keys one `MGET` asks for.
const MGET_BATCH_KEYS: usize = 500;
/// How long the keys are looked for, and their values. A host gives one read half a minute in all, and who is
/// still looking then is stopped, which tells nobody why.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// After so many `SCAN`s it is given up: that takes about half of what a host lets a plugin compute for.
const MAX_SCAN_CALLS: usize = 10_000;
/// The names are held, and sent back.
const MAX_KEY_BYTES_TOTAL: usize = MAX_NON_VALUE_FRAME_BYTES;
/// A cursor is a number.
const MAX_CURSOR_DIGITS: usize = 20;
/// How many slots of the database one `SCAN` looks at.
const SCAN_COUNT: &str = "1000";

impl Prefix {
    pub(crate) fn new(prefix: &str, max_keys: u32) -> Self {
        Self {
            prefix: prefix.into(),
            max_keys: usize::try_from(max_keys).unwrap_or(usize::MAX),
            timeout: READ_TIMEOUT,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.prefix
    }

    /// The glob that matches exactly these keys.
    pub(crate) fn pattern(&self) -> String {
        escape(&self.prefix) + "*"
    }

    /// All of them, from the beginning.
    pub(crate) fn read(&self, connection: &mut RespConnection) -> Result<Entries, Error> {
        let mut entries = Entries::new();
        let until = Instant::now() + self.timeout;
        let keys = self.keys(connection, until)?;
        self.get(connection, keys, &mut entries, until)?;
        Ok(entries)
    }

    /// Brings the values of these keys up to date. What is gone, or is no string, is left out.
    pub(crate) fn refresh(
        &self,
        connection: &mut RespConnection,
        keys: BTreeSet<Vec<u8>>,
        entries: &mut Entries,
    ) -> Result<(), Error> {
        self.get(connection, keys, entries, Instant::now() + self.timeout)
    }

    fn get(
        &self,
        connection: &mut RespConnection,
        keys: BTreeSet<Vec<u8>>,
        entries: &mut Entries,
        until: Instant,
    ) -> Result<(), Error> {
        let keys = Vec::from_iter(keys);
        for batch in keys.chunks(MGET_BATCH_KEYS) {
            if Instant::now() >= until {
                return Err(Error::unusable(format_args!(
                    "the values below `{}` did not all arrive within {:?}: the server is too slow, or \
                     there are too many",
                    self.prefix, self.timeout
                )));
            }
            let command = Vec::from_iter(
                [b"MGET".as_slice()].into_iter().chain(batch.iter().map(Vec::as_slice)),
            );
            let values = match connection.request(&command)? {
                Frame::List(values) if values.len() == batch.len() => values,
                _ => return Err(Error::unexpected("MGET")),
            };
            for (key, value) in batch.iter().zip(values) {
                self.put(key, value, entries)?;
            }
            self.check(entries)?;
        }
        Ok(())
    }

    fn put(&self, key: &[u8], value: Frame, entries: &mut Entries) -> Result<(), Error> {
        let lossy = || String::from_utf8_lossy(key);
        let name = key.get(self.prefix.len()..).unwrap_or_default().to_vec();
        match value {
            Frame::Text(value) => {
                let name = require_utf8(name, || format!("the key `{}`", lossy()))?;
                let value = require_utf8(value, || format!("the value of `{}`", lossy()))?;
                entries.insert(name, value);
            }
            Frame::Nil => {
                if let Ok(name) = str::from_utf8(&name) {
                    entries.remove(name);
                }
            }
            _ => return Err(Error::unexpected("MGET")),
        }
        Ok(())
    }

    /// The names of all keys below the prefix. `SCAN` may give one several times.
    fn keys(&self, connection: &mut RespConnection, until: Instant) -> Result<BTreeSet<Vec<u8>>, Error> {
        let pattern = self.pattern();
        let mut keys = BTreeSet::new();
        let mut cursor = b"0".to_vec();
        for _ in 0..MAX_SCAN_CALLS {
            let command: [&[u8]; 6] =
                [b"SCAN", &cursor, b"MATCH", pattern.as_bytes(), b"COUNT", SCAN_COUNT.as_bytes()];
            let Frame::List(answer) = connection.request(&command)? else {
                return Err(Error::unexpected("SCAN"));
            };
            let Ok([Frame::Text(next), Frame::List(found)]) = <[Frame; 2]>::try_from(answer) else {
                return Err(Error::unexpected("SCAN"));
            };
            if next.len() > MAX_CURSOR_DIGITS {
                return Err(Error::unexpected("SCAN"));
            }
            keys.extend(found.into_iter().filter_map(|key| match key {
                Frame::Text(key) if key.starts_with(self.prefix.as_bytes()) => Some(key),
                _ => None,
            }));
            if keys.len() > self.max_keys {
                return Err(self.too_many());
            }
            self.check_size(keys.iter().map(Vec::len).sum(), MAX_KEY_BYTES_TOTAL)?;
            if next == b"0" {
                return Ok(keys);
            }
            if Instant::now() >= until {
                break;
            }
            cursor = next;
        }
        Err(Error::unusable(format_args!(
            "the keys below `{}` were not all found within {:?} and {MAX_SCAN_CALLS} searches: the database is \
             too large, or the server goes round in circles; a `hash` needs no search",
            self.prefix, self.timeout
        )))
    }

    /// A value that nobody meant to be that large had better be refused than held.
    fn check(&self, entries: &Entries) -> Result<(), Error> {
        if entries.len() > self.max_keys {
            return Err(self.too_many());
        }
        let size = entries.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.check_size(size, MAX_VALUE_FRAME_BYTES)
    }

    fn check_size(&self, size: usize, limit: usize) -> Result<(), Error> {
        if size > limit {
            let limit = limit / 1024 / 1024;
            let prefix = &self.prefix;
            return Err(Error::unusable(format!(
                "the keys below `{prefix}` hold more than {limit} MiB"
            )));
        }
        Ok(())
    }

    fn too_many(&self) -> Error {
        Error::unusable(format_args!(
            "more than {} keys begin with `{}`: set a longer `prefix`, or raise `max_keys`",
            self.max_keys, self.prefix
        ))
    }
}

/// A glob that matches just this text.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        address::Address,
        connection::Server,
        tests::{command, prefix, reload},
    };
    use guest_sdk::{Failure, FakeHost, Outcome, Script, Snapshot};

    #[test]
    fn all_strings_below_a_prefix_are_one_object_and_what_is_no_string_is_left_out() {
        let script = Script::new()
            .expect(command("SCAN 0 MATCH app:* COUNT 1000"))
            .reply("*2\r\n$2\r\n17\r\n*2\r\n$5\r\napp:b\r\n$6\r\napp:ls\r\n")
            .expect(command("SCAN 17 MATCH app:* COUNT 1000"))
            .reply("*2\r\n$1\r\n0\r\n*2\r\n$5\r\napp:b\r\n$5\r\napp:a\r\n")
            .expect(command("MGET app:a app:b app:ls"))
            .reply("*3\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n");
        let expected = Snapshot::new(r#"{"a":"1","b":"2"}"#).media_type("application/json");
        assert_eq!(reload(prefix(), script), Ok(expected.into()));
    }

    #[test]
    fn no_key_below_the_prefix_is_absent() {
        let script = Script::new()
            .expect(command("SCAN 0 MATCH app:* COUNT 1000"))
            .reply("*2\r\n$1\r\n0\r\n*0\r\n");
        assert_eq!(reload(prefix(), script), Ok(Outcome::Absent));
    }

    #[test]
    fn more_keys_than_allowed_are_a_failure_not_a_part() {
        let script = Script::new()
            .expect(command("SCAN 0 MATCH app:* COUNT 1000"))
            .reply("*2\r\n$1\r\n7\r\n*3\r\n$5\r\napp:a\r\n$5\r\napp:b\r\n$5\r\napp:c\r\n");
        let mut settings = prefix();
        settings.max_keys = 2;
        let message = "db:6379: more than 2 keys begin with `app:`: set a longer `prefix`, or raise \
                       `max_keys`";
        assert_eq!(reload(settings, script), Err(Failure::permanent(message)));
    }

    #[test]
    fn a_value_that_json_cannot_hold_is_named() {
        let script = Script::new()
            .expect(command("SCAN 0 MATCH app:* COUNT 1000"))
            .reply("*2\r\n$1\r\n0\r\n*1\r\n$5\r\napp:a\r\n")
            .expect(command("MGET app:a"))
            .reply(b"*1\r\n$1\r\n\xff\r\n");
        let message = "db:6379: the value of `app:a` is not UTF-8, so JSON cannot hold it";
        assert_eq!(reload(prefix(), script), Err(Failure::permanent(message)));
    }

    #[test]
    fn a_search_that_does_not_end_is_given_up() {
        let fake = FakeHost::new();
        let page = "*2\r\n$1\r\n7\r\n*0\r\n";
        let script = Script::new().expect(command("SCAN 0 MATCH app:* COUNT 1000")).reply(page);
        fake.next_connection(script);
        let address = Address::new(&prefix()).unwrap();
        let server = Server { host: fake.host(), address, timeout: Duration::from_secs(5) };
        let prefix = Prefix { timeout: Duration::ZERO, ..Prefix::new("app:", 10) };
        let error = prefix.read(&mut server.dial().unwrap()).unwrap_err();
        let failure = error.into_failure(&server.address.target);
        assert!(failure.message.contains("were not all found within 0ns"), "{failure}");
    }

    #[test]
    fn a_search_in_circles_is_given_up_before_it_has_computed_for_too_long() {
        let page = "*2\r\n$1\r\n7\r\n*0\r\n";
        let first = Script::new().expect(command("SCAN 0 MATCH app:* COUNT 1000")).reply(page);
        let script = (1..MAX_SCAN_CALLS).fold(first, |script, _| {
            script.expect(command("SCAN 7 MATCH app:* COUNT 1000")).reply(page)
        });
        let failure = reload(prefix(), script).unwrap_err();
        assert!(failure.message.contains("10000 searches"), "{failure}");
    }

    #[test]
    fn a_cursor_that_is_none_is_not_sent_back() {
        let script = Script::new()
            .expect(command("SCAN 0 MATCH app:* COUNT 1000"))
            .reply(format!("*2\r\n$21\r\n{}\r\n*0\r\n", "7".repeat(21)));
        let failure = reload(prefix(), script).unwrap_err();
        assert_eq!(failure, Failure::permanent("db:6379: the answer to SCAN makes no sense"));
    }

    #[test]
    fn values_that_take_too_long_are_given_up() {
        let fake = FakeHost::new();
        fake.next_connection(Script::new());
        let address = Address::new(&prefix()).unwrap();
        let server = Server { host: fake.host(), address, timeout: Duration::from_secs(5) };
        let prefix = Prefix { timeout: Duration::ZERO, ..Prefix::new("app:", 10) };
        let keys = BTreeSet::from([b"app:a".to_vec()]);
        let mut connection = server.dial().unwrap();
        let error = prefix.refresh(&mut connection, keys, &mut Entries::new()).unwrap_err();
        let failure = error.into_failure(&server.address.target);
        assert!(failure.message.contains("did not all arrive within 0ns"), "{failure}");
    }

    #[test]
    fn names_that_take_too_much_are_a_failure() {
        let name = format!("app:{}", "a".repeat(MAX_KEY_BYTES_TOTAL / 2));
        let page = |last: char| {
            let name = format!("{name}{last}");
            format!("*2\r\n$1\r\n7\r\n*1\r\n${}\r\n{name}\r\n", name.len())
        };
        let script = Script::new()
            .expect(command("SCAN 0 MATCH app:* COUNT 1000"))
            .reply(page('1'))
            .expect(command("SCAN 7 MATCH app:* COUNT 1000"))
            .reply(page('2'));
        let failure = reload(prefix(), script).unwrap_err();
        assert!(failure.message.ends_with("hold more than 4 MiB"), "{failure}");
    }

    #[test]
    fn a_prefix_is_taken_literally() {
        assert_eq!(Prefix::new(r"a*b?[c]\", 1).pattern(), r"a\*b\?\[c\]\\*");
    }
}
