//! What a plugin may reach: exactly what its operator wrote into the settings that are marked.
//!
//! Pure decisions. Nothing here resolves, opens or dials.

mod address;
mod addresses;

pub use address::{AddressError, HostPort, HttpOrigin};
pub use addresses::{AddressKind, AddressPolicy, AddressRange, AddressRangeError, RefusedAddress};

use serde_json::Value;
use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};
use url::Url;

/// What one plugin, with one set of settings, may reach. Empty unless something is named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// Hosts and ports, for `endpoint`.
    pub connect: BTreeSet<HostPort>,
    /// Origins, for `wasi:http`.
    pub http: BTreeSet<HttpOrigin>,
    /// Files, for `files`, as they stand in the settings.
    pub read: BTreeSet<PathBuf>,
}

/// A setting names something that cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting `{setting}`: {reason}")]
pub struct GrantError {
    /// The setting, with dots between the levels.
    pub setting: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Grants {
    /// What these settings name, by the marks in their schema. The settings are already checked
    /// against the schema.
    ///
    /// # Errors
    ///
    /// A [`GrantError`] for each marked setting that does not name something to reach.
    pub fn implied(schema: &Value, settings: &Value) -> Result<Self, Vec<GrantError>> {
        let mut grants = Self::default();
        let mut errors = Vec::new();
        grants.collect("", schema, settings, &mut errors);
        if errors.is_empty() { Ok(grants) } else { Err(errors) }
    }

    fn collect(&mut self, at: &str, schema: &Value, value: &Value, errors: &mut Vec<GrantError>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    let schema = match &schema["properties"][name] {
                        Value::Null => &schema["additionalProperties"],
                        schema => schema,
                    };
                    let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                    self.collect(&at, schema, value, errors);
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.collect(at, &schema["items"], item, errors);
                }
            }
            Value::String(text) => {
                if let Err(reason) = self.grant(schema, text) {
                    errors.push(GrantError { setting: at.into(), reason });
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn grant(&mut self, schema: &Value, text: &str) -> Result<(), String> {
        if schema["x-read"] == true {
            if text.is_empty() {
                return Err("expected a path, but it is empty".into());
            }
            self.read.insert(text.into());
        }
        if let Value::Object(schemes) = &schema["x-connect"] {
            let expected = || {
                let urls: Vec<_> = schemes.keys().map(|scheme| format!("{scheme}://…")).collect();
                format!("expected a URL like {}", urls.join(" or "))
            };
            let url = Url::parse(text).map_err(|error| format!("{}: {error}", expected()))?;
            let default_port = schemes
                .get(url.scheme())
                .ok_or_else(|| format!("{}, not `{}:`", expected(), url.scheme()))?;
            let host = url.host_str().filter(|host| !host.is_empty());
            let host = host.ok_or_else(|| format!("{}: no host in it", expected()))?;
            let port = url.port().or_else(|| default_port.as_u64()?.try_into().ok());
            let port = port.ok_or_else(|| format!("{}: no port in it", expected()))?;
            let address = HostPort::new(host, port).map_err(|error| error.to_string())?;
            match url.scheme() {
                // A grant of HTTP is not a grant of bytes to the same port.
                "http" | "https" => {
                    let tls = url.scheme() == "https";
                    self.http.insert(HttpOrigin { tls, address });
                }
                _ => {
                    self.connect.insert(address);
                }
            }
        }
        Ok(())
    }

    /// Whether a connection may be made.
    #[must_use]
    pub fn allows_connect(&self, address: &HostPort) -> bool {
        self.connect.contains(address)
    }

    /// Whether a request may be sent. To a host that is neither a name nor an address it may not.
    #[must_use]
    pub fn allows_http(&self, tls: bool, host: &str, port: u16) -> bool {
        HostPort::new(host, port)
            .is_ok_and(|address| self.http.contains(&HttpOrigin { tls, address }))
    }

    /// Whether a file may be read: by the very path that stands in the settings.
    #[must_use]
    pub fn allows_read(&self, path: &str) -> bool {
        // Compared as text: `Path` takes `a/./b` for `a/b`.
        self.read.iter().any(|granted| granted.as_os_str() == Path::new(path).as_os_str())
    }
}

/// One line for each grant.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connect = self.connect.iter().map(|address| format!("connect {address}"));
        let http = self.http.iter().map(|origin| format!("request {origin}"));
        let read = self.read.iter().map(|path| format!("read {}", path.display()));
        let lines: Vec<_> = connect.chain(http).chain(read).collect();
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({ "properties": {
            "url": { "type": "string", "x-connect": { "redis": 6379, "rediss": 6380 } },
            "web": { "type": "string", "x-connect": { "http": 80, "https": 443 } },
            "path": { "type": "string", "x-read": true },
            "more": { "type": "array", "items": { "type": "string", "x-read": true } },
            "name": { "type": "string" },
        }})
    }

    fn granted(settings: Value) -> Grants {
        Grants::implied(&schema(), &settings).expect("it can be granted")
    }

    fn refused(settings: Value) -> String {
        let errors = Grants::implied(&schema(), &settings).expect_err("it cannot be granted");
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_is_named_is_granted_and_nothing_else() {
        let cases = [
            (json!({}), ""),
            (json!({ "name": "redis://secret:6379" }), ""),
            (json!({ "url": "redis://localhost" }), "connect localhost:6379"),
            (json!({ "url": "rediss://u:p@Example.COM./3" }), "connect example.com:6380"),
            (json!({ "url": "redis://[::1]:7" }), "connect [::1]:7"),
            (json!({ "url": "redis://0x7f000001:7" }), "connect 127.0.0.1:7"),
            (json!({ "web": "https://example.com/a?b" }), "request https://example.com:443"),
            (json!({ "web": "http://example.com:8080" }), "request http://example.com:8080"),
            (json!({ "path": "a/b", "more": ["c", "d"] }), "read a/b\nread c\nread d"),
        ];
        for (settings, expected) in cases {
            assert_eq!(granted(settings.clone()).to_string(), expected, "{settings}");
        }
    }

    #[test]
    fn what_cannot_be_granted_is_named_with_what_was_expected() {
        let cases = [
            (
                json!({ "url": "http://h" }),
                "setting `url`: expected a URL like redis://… or rediss://…, not `http:`",
            ),
            (
                json!({ "url": "redis:///0" }),
                "setting `url`: expected a URL like redis://… or rediss://…: no host in it",
            ),
            (
                json!({ "web": "example.com" }),
                "setting `web`: expected a URL like http://… or https://…: relative URL without a base",
            ),
            (json!({ "path": "" }), "setting `path`: expected a path, but it is empty"),
        ];
        for (settings, expected) in cases {
            assert_eq!(refused(settings.clone()), expected, "{settings}");
        }
    }

    #[test]
    fn an_address_is_the_same_in_every_spelling_and_its_neighbours_are_not() {
        let grants =
            granted(json!({ "url": "redis://127.0.0.1:6379", "web": "https://example.com" }));
        let connects = |host: &str, port| {
            HostPort::new(host, port).is_ok_and(|address| grants.allows_connect(&address))
        };
        assert!(connects("127.0.0.1", 6379));
        assert!(connects("0x7f.1", 6379));
        assert!(!connects("127.0.0.1", 6380));
        assert!(!connects("localhost", 6379));
        assert!(!connects("::ffff:127.0.0.1", 6379));
        assert!(!connects("example.com", 443), "HTTP is not a raw connection");
        assert!(grants.allows_http(true, "EXAMPLE.com.", 443));
        assert!(!grants.allows_http(false, "example.com", 443));
        assert!(!grants.allows_http(true, "evilexample.com", 443));
        assert!(!grants.allows_http(true, "example.com.evil.org", 443));
        assert!(!grants.allows_http(true, "", 443));
    }

    #[test]
    fn a_file_is_granted_by_its_very_name() {
        let grants = granted(json!({ "path": "etc/app.toml" }));
        assert!(grants.allows_read("etc/app.toml"));
        for other in
            ["etc/app.toml/", "etc//app.toml", "./etc/app.toml", "etc", "etc/../etc/app.toml"]
        {
            assert!(!grants.allows_read(other), "{other}");
        }
    }
}
