//! Read of the configured key, hash or prefix, and its conversion to one value.

use crate::{
    connection::RespConnection,
    error::Error,
    json_object::{Entries, require_utf8, to_json},
    kvs_settings::Settings,
    prefix::Prefix,
    resp::Frame,
};
use guest_sdk::{Failure, Snapshot};

/// Configured read: exactly one of `key`, `hash` and `prefix`.
#[derive(Debug)]
pub(crate) enum Query {
    Key { name: String, media_type: Option<String> },
    Hash { name: String },
    Prefix(Prefix),
}

impl Query {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Failure> {
        let Settings { key, hash, prefix, media_type, max_keys, .. } = settings;
        let query = match (key, hash, prefix) {
            (Some(name), None, None) => {
                let (name, media_type) = (name.clone(), media_type.clone());
                return Ok(Self::Key { name, media_type });
            }
            (None, Some(name), None) => Self::Hash { name: name.clone() },
            (None, None, Some(prefix)) => Self::Prefix(Prefix::new(prefix, *max_keys)),
            _ => return Err(Failure::config("set exactly one of `key`, `hash` and `prefix`")),
        };
        match media_type {
            None => Ok(query),
            Some(_) => Err(Failure::config(
                "`media_type` requires `key`; values of `hash` and `prefix` are always application/json",
            )),
        }
    }

    /// Reads the current value. Returns `None` if the value does not exist.
    pub(crate) fn read(&self, connection: &mut RespConnection) -> Result<Option<Snapshot>, Error> {
        match self {
            Self::Key { name, media_type } => match request_key(connection, "GET", name)? {
                Frame::Nil => Ok(None),
                Frame::Text(content) => {
                    Ok(Some(Snapshot { content, media_type: media_type.clone(), cursor: None }))
                }
                _ => Err(Error::unexpected("GET")),
            },
            Self::Hash { name } => match request_key(connection, "HGETALL", name)? {
                Frame::List(items) => to_json(&hash_entries(name, items)?),
                _ => Err(Error::unexpected("HGETALL")),
            },
            Self::Prefix(prefix) => to_json(&prefix.read(connection)?),
        }
    }

    /// Returns the key or the prefix.
    pub(crate) fn key_or_prefix(&self) -> &str {
        match self {
            Self::Key { name, .. } | Self::Hash { name } => name,
            Self::Prefix(prefix) => prefix.as_str(),
        }
    }

    /// Returns whether a change of this key can change the value.
    pub(crate) fn is_affected_by(&self, key: &[u8]) -> bool {
        match self {
            Self::Key { name, .. } | Self::Hash { name } => key == name.as_bytes(),
            Self::Prefix(prefix) => key.starts_with(prefix.as_str().as_bytes()),
        }
    }
}

/// Maximum length of a type name in a reply to `TYPE`, in bytes. Names of module types have 9 characters.
const MAX_TYPE_NAME_BYTES: usize = 64;

/// Sends a read command for one key. If the key has another type, determines the type with `TYPE` for the
/// error message.
fn request_key(connection: &mut RespConnection, command: &str, name: &str) -> Result<Frame, Error> {
    match connection.request(&[command, name]) {
        Err(Error::Reply(reply)) if reply.code() == "WRONGTYPE" => {
            let kind = match connection.request(&["TYPE", name]) {
                Ok(Frame::Text(kind)) if kind.len() <= MAX_TYPE_NAME_BYTES => {
                    String::from_utf8_lossy(&kind).into_owned()
                }
                Err(lost @ Error::Lost(_)) => return Err(lost),
                // The type is unknown, e.g. because the user's ACL denies `TYPE`.
                _ => "value of another type".into(),
            };
            Err(Error::unusable(match kind.as_str() {
                "hash" => format!("`{name}` holds a hash; use `hash` instead of `key`"),
                "string" => format!("`{name}` holds a string; use `key` instead of `hash`"),
                kind => format!("`{name}` holds a {kind}; only strings and hashes are supported"),
            }))
        }
        result => result,
    }
}

/// Converts the reply to `HGETALL`: alternating field names and values.
fn hash_entries(name: &str, items: Vec<Frame>) -> Result<Entries, Error> {
    let mut entries = Entries::new();
    let mut items = items.into_iter();
    while let Some(field) = items.next() {
        let (Frame::Text(field), Some(Frame::Text(value))) = (field, items.next()) else {
            return Err(Error::unexpected("HGETALL"));
        };
        let field = require_utf8(field, || format!("the name of a field of `{name}`"))?;
        let value = require_utf8(value, || format!("the field `{field}` of `{name}`"))?;
        entries.insert(field, value);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use crate::tests::{command, get, hash, key, reload};
    use guest_sdk::{Failure, FailureKind, Outcome, Script, Snapshot};

    #[test]
    fn key_content_is_unchanged() {
        let script = get(b"$3\r\n\xff\r\n\r\n");
        assert_eq!(reload(key(), script), Ok(Snapshot::new(*b"\xff\r\n").into()));
    }

    #[test]
    fn key_has_configured_media_type() {
        let mut settings = key();
        settings.media_type = Some("text/plain".into());
        let expected = Snapshot::new("").media_type("text/plain");
        assert_eq!(reload(settings, get("$0\r\n\r\n")), Ok(expected.into()));
    }

    #[test]
    fn missing_key_is_absent() {
        assert_eq!(reload(key(), get("$-1\r\n")), Ok(Outcome::Absent));
        let script = Script::new().expect(command("HGETALL app")).reply("*0\r\n");
        assert_eq!(reload(hash(), script), Ok(Outcome::Absent));
    }

    #[test]
    fn hash_becomes_sorted_json_object() {
        let script = Script::new()
            .expect(command("HGETALL app"))
            .reply("*4\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\na\r\n$3\r\n\"x\"\r\n");
        let expected = Snapshot::new(r#"{"a":"\"x\"","b":"2"}"#).media_type("application/json");
        assert_eq!(reload(hash(), script), Ok(expected.into()));
    }

    #[test]
    fn non_utf8_field_fails_with_name() {
        let script = Script::new()
            .expect(command("HGETALL app"))
            .reply(b"*2\r\n$4\r\nlogo\r\n$1\r\n\xff\r\n");
        let message =
            "db:6379: the field `logo` of `app` is not UTF-8 and cannot be converted to JSON";
        assert_eq!(reload(hash(), script), Err(Failure::permanent(message)));
    }

    #[test]
    fn wrong_type_names_correct_setting() {
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
        for (settings, read_command, kind, advice) in [
            (key(), "GET app", "+hash\r\n", "holds a hash; use `hash`"),
            (hash(), "HGETALL app", "+string\r\n", "holds a string; use `key`"),
            (key(), "GET app", "+list\r\n", "only strings and hashes"),
            (key(), "GET app", "-NOPERM no\r\n", "value of another type"),
        ] {
            let script = Script::new()
                .expect(command(read_command))
                .reply(wrong)
                .expect(command("TYPE app"))
                .reply(kind);
            let failure = reload(settings, script).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Permanent);
            assert!(failure.message.contains(advice), "{failure}");
        }
    }
}
