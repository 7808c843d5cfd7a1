//! All keys with a prefix as one value, read with `SCAN` and `MGET`.

use crate::{
    connection::RespConnection,
    error::Error,
    json_object::{Entries, require_utf8},
    resp::{Frame, MAX_NON_VALUE_FRAME_BYTES, MAX_VALUE_FRAME_BYTES},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Key prefix with the limits of a read.
#[derive(Debug)]
pub(crate) struct Prefix {
    prefix: String,
    max_keys: usize,
    /// Timeout of one read: all `SCAN` and `MGET` requests.
    timeout: Duration,
}

/// Maximum number of keys of one `MGET`.
const MGET_BATCH_KEYS: usize = 500;
/// Timeout of one read. It is less than the host's limit of 30 seconds for a call, so the plugin can return
/// a specific failure before the host stops it.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum number of `SCAN` calls of one read. They take about half of the host's CPU limit for a call.
const MAX_SCAN_CALLS: usize = 10_000;
/// Maximum total length of all key names, in bytes.
const MAX_KEY_BYTES_TOTAL: usize = MAX_NON_VALUE_FRAME_BYTES;
/// Maximum length of a `SCAN` cursor: the number of digits of `u64::MAX`.
const MAX_CURSOR_DIGITS: usize = 20;
/// `COUNT` of a `SCAN`: the approximate number of keys that one call examines.
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

    /// Returns the glob pattern that matches the keys with the prefix.
    pub(crate) fn pattern(&self) -> String {
        escape(&self.prefix) + "*"
    }

    /// Reads all keys with the prefix.
    pub(crate) fn read(&self, connection: &mut RespConnection) -> Result<Entries, Error> {
        let mut entries = Entries::new();
        let until = Instant::now() + self.timeout;
        let keys = self.keys(connection, until)?;
        self.get(connection, keys, &mut entries, until)?;
        Ok(entries)
    }

    /// Reads the given keys and updates `entries`. Removes keys that do not exist or are not strings.
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
                    "reading the keys with prefix `{}` timed out after {:?}: the server is too slow, or \
                     there are too many keys",
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

    /// Returns the names of all keys with the prefix. `SCAN` may return duplicates.
    fn keys(
        &self,
        connection: &mut RespConnection,
        until: Instant,
    ) -> Result<BTreeSet<Vec<u8>>, Error> {
        let pattern = self.pattern();
        let mut keys = BTreeSet::new();
        let mut cursor = b"0".to_vec();
        for _ in 0..MAX_SCAN_CALLS {
            let command: [&[u8]; 6] =
                [b"SCAN", &cursor, b"MATCH", pattern.as_bytes(), b"COUNT", SCAN_COUNT.as_bytes()];
            let Frame::List(reply) = connection.request(&command)? else {
                return Err(Error::unexpected("SCAN"));
            };
            let Ok([Frame::Text(next), Frame::List(found)]) = <[Frame; 2]>::try_from(reply) else {
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
            "SCAN for the prefix `{}` did not complete within {:?} and {MAX_SCAN_CALLS} calls: the database \
             is too large, or the server repeats cursors; a `hash` needs no SCAN",
            self.prefix, self.timeout
        )))
    }

    /// Checks the number of keys and their total size.
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
                "the keys with prefix `{prefix}` are larger than {limit} MiB"
            )));
        }
        Ok(())
    }

    fn too_many(&self) -> Error {
        Error::unusable(format_args!(
            "more than {} keys have the prefix `{}`: set a longer `prefix` or increase `max_keys`",
            self.max_keys, self.prefix
        ))
    }
}

/// Escapes a text for use in a glob pattern.
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
    fn string_keys_become_one_object() {
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
    fn prefix_without_keys_is_absent() {
        let script = Script::new()
            .expect(command("SCAN 0 MATCH app:* COUNT 1000"))
            .reply("*2\r\n$1\r\n0\r\n*0\r\n");
        assert_eq!(reload(prefix(), script), Ok(Outcome::Absent));
    }

    #[test]
    fn too_many_keys_fail() {
        let script = Script::new()
            .expect(command("SCAN 0 MATCH app:* COUNT 1000"))
            .reply("*2\r\n$1\r\n7\r\n*3\r\n$5\r\napp:a\r\n$5\r\napp:b\r\n$5\r\napp:c\r\n");
        let mut settings = prefix();
        settings.max_keys = 2;
        let message = "db:6379: more than 2 keys have the prefix `app:`: set a longer `prefix` or \
                       increase `max_keys`";
        assert_eq!(reload(settings, script), Err(Failure::permanent(message)));
    }

    #[test]
    fn non_utf8_value_fails_with_key() {
        let script = Script::new()
            .expect(command("SCAN 0 MATCH app:* COUNT 1000"))
            .reply("*2\r\n$1\r\n0\r\n*1\r\n$5\r\napp:a\r\n")
            .expect(command("MGET app:a"))
            .reply(b"*1\r\n$1\r\n\xff\r\n");
        let message = "db:6379: the value of `app:a` is not UTF-8 and cannot be converted to JSON";
        assert_eq!(reload(prefix(), script), Err(Failure::permanent(message)));
    }

    #[test]
    fn scan_has_timeout() {
        let fake = FakeHost::new();
        let page = "*2\r\n$1\r\n7\r\n*0\r\n";
        let script = Script::new().expect(command("SCAN 0 MATCH app:* COUNT 1000")).reply(page);
        fake.next_connection(script);
        let address = Address::new(&prefix()).unwrap();
        let server = Server { host: fake.host(), address, timeout: Duration::from_secs(5) };
        let prefix = Prefix { timeout: Duration::ZERO, ..Prefix::new("app:", 10) };
        let error = prefix.read(&mut server.dial().unwrap()).unwrap_err();
        let failure = error.into_failure(&server.address.target);
        assert!(failure.message.contains("did not complete within 0ns"), "{failure}");
    }

    #[test]
    fn scan_calls_are_limited() {
        let page = "*2\r\n$1\r\n7\r\n*0\r\n";
        let first = Script::new().expect(command("SCAN 0 MATCH app:* COUNT 1000")).reply(page);
        let script = (1..MAX_SCAN_CALLS).fold(first, |script, _| {
            script.expect(command("SCAN 7 MATCH app:* COUNT 1000")).reply(page)
        });
        let failure = reload(prefix(), script).unwrap_err();
        assert!(failure.message.contains("10000 calls"), "{failure}");
    }

    #[test]
    fn overlong_scan_cursor_fails() {
        let script = Script::new()
            .expect(command("SCAN 0 MATCH app:* COUNT 1000"))
            .reply(format!("*2\r\n$21\r\n{}\r\n*0\r\n", "7".repeat(21)));
        let failure = reload(prefix(), script).unwrap_err();
        assert_eq!(failure, Failure::permanent("db:6379: unexpected reply to SCAN"));
    }

    #[test]
    fn mget_has_timeout() {
        let fake = FakeHost::new();
        fake.next_connection(Script::new());
        let address = Address::new(&prefix()).unwrap();
        let server = Server { host: fake.host(), address, timeout: Duration::from_secs(5) };
        let prefix = Prefix { timeout: Duration::ZERO, ..Prefix::new("app:", 10) };
        let keys = BTreeSet::from([b"app:a".to_vec()]);
        let mut connection = server.dial().unwrap();
        let error = prefix.refresh(&mut connection, keys, &mut Entries::new()).unwrap_err();
        let failure = error.into_failure(&server.address.target);
        assert!(failure.message.contains("timed out after 0ns"), "{failure}");
    }

    #[test]
    fn total_key_length_is_limited() {
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
        assert!(failure.message.ends_with("are larger than 4 MiB"), "{failure}");
    }

    #[test]
    fn pattern_escapes_glob_characters() {
        assert_eq!(Prefix::new(r"a*b?[c]\", 1).pattern(), r"a\*b\?\[c\]\\*");
    }
}
