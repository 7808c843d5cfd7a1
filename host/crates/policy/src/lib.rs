//! What a plugin may reach: exactly what its operator wrote into annotated settings, and what was granted
//! besides. Also which addresses a name may resolve to, which credentials the host adds to requests, and which
//! settings fit a plugin's schema.
//!
//! A crate of its own, because it is pure: nothing here resolves, opens or dials, and the fuzzers link nothing
//! else.
//!
//! ```
//! use reloader_policy::{Access, Permission, decide};
//! use serde_json::json;
//!
//! let schema = json!({ "properties": { "path": { "type": "string", "x-read": true } } });
//! let settings = json!({ "path": "/etc/app.toml" });
//! let decision = decide(&schema, &settings, &Permission::default()).expect("a valid grant");
//! assert!(decision.granted.allow(&Access::Read("/etc/app.toml".into())));
//! assert!(!decision.granted.allow(&Access::Read("/etc/shadow".into())));
//! ```

pub mod plugin_settings;
pub mod schema_annotations;

mod address_policy;
mod credential;
mod grant;
mod host_port;
mod schema_limits;

pub use address_policy::{
    AddressKind, AddressPolicy, AddressRange, AddressRangeError, RefusedAddress,
};
pub use credential::{Credential, CredentialError, CredentialHeader};
pub use grant::{Access, Grant, GrantSyntaxError, Hosts};
pub use host_port::{AddressError, HostPort, HttpOrigin};

use schema_annotations::Place;
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};
use url::Url;

/// What an operator grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// Whether writing something into a marked setting grants it.
    pub implied: bool,
    /// What is granted besides.
    pub grants: BTreeSet<Grant>,
}

/// By the settings, and nothing besides.
impl Default for Permission {
    fn default() -> Self {
        Self { implied: true, grants: BTreeSet::new() }
    }
}

/// What a setting names, which the plugin will ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The setting, with dots between the levels.
    pub setting: String,
    /// What it names.
    pub access: Access,
    /// The same in words, and the flag that would grant it; both without what is secret.
    pub shown: String,
    /// See `shown`.
    pub flag: String,
}

/// What one plugin, with one set of settings, will ask for and may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// What its settings name.
    pub asked: Vec<Asked>,
    /// What it may reach.
    pub granted: Grants,
    /// The same as flags, without what is secret.
    pub flags: Vec<String>,
}

impl Decision {
    /// What its settings name and it may not reach.
    pub fn missing(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter().filter(|asked| !self.granted.allow(&asked.access))
    }
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

/// Decides what a plugin may reach: from the marks in its schema, from what its operator has set (not
/// from the plugin's own defaults), and from what is granted besides. The settings have been checked
/// against the schema.
///
/// # Errors
///
/// A [`GrantError`] for each marked setting that does not name something to reach.
pub fn decide(
    schema: &Value,
    settings: &Value,
    permission: &Permission,
) -> Result<Decision, Vec<GrantError>> {
    let (mut asked, mut errors) = (Vec::new(), Vec::new());
    collect("", &Place::all(schema), settings, &mut asked, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut granted = permission.grants.clone();
    if permission.implied {
        granted.extend(asked.iter().map(|asked| asked.access.grant()));
    }
    let flags = granted.iter().map(ToString::to_string).collect();
    Ok(Decision { asked, granted: Grants(granted.into_iter().collect()), flags })
}

fn collect(
    at: &str,
    place: &Place<'_>,
    value: &Value,
    asked: &mut Vec<Asked>,
    errors: &mut Vec<GrantError>,
) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                collect(&at, &place.member(name), value, asked, errors);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(at, &place.item(index), item, asked, errors);
            }
        }
        Value::String(text) => match named(place, text) {
            Ok(accesses) => asked.extend(accesses.into_iter().map(|access| Asked {
                setting: at.into(),
                shown: access.describe(),
                flag: access.grant().to_string(),
                access,
            })),
            Err(reason) => errors.push(GrantError { setting: at.into(), reason }),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What a text names, by the marks of its setting.
fn named(place: &Place<'_>, text: &str) -> Result<Vec<Access>, String> {
    let mut named = Vec::new();
    if place.is_read() {
        if text.is_empty() {
            return Err("expected a path, but it is empty".into());
        }
        named.push(Access::Read(text.into()));
    }
    if let Some(schemes) = place.schemes() {
        let expected = || {
            let urls: Vec<_> = schemes.iter().map(|(scheme, _)| format!("{scheme}://…")).collect();
            format!("expected a URL like {}", urls.join(" or "))
        };
        let url = Url::parse(text).map_err(|error| format!("{}: {error}", expected()))?;
        let default_port = schemes
            .iter()
            .find_map(|(scheme, port)| (*scheme == url.scheme()).then_some(port))
            .ok_or_else(|| format!("{}, not `{}:`", expected(), url.scheme()))?;
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("{}: no host in it", expected()))?;
        // The plugin says what its own schemes stand for, and nothing about those that everybody knows.
        let own = || default_port.as_u64().and_then(|port| port.try_into().ok());
        let port = url.port_or_known_default().or_else(own);
        let port = port.ok_or_else(|| format!("{}: no port in it", expected()))?;
        let address = HostPort::new(host, port).map_err(|error| error.to_string())?;
        named.push(match url.scheme() {
            // A grant of HTTP is not a grant of bytes to the same port.
            "http" | "https" => {
                let tls = url.scheme() == "https";
                Access::Http(HttpOrigin { tls, address }, url.path().into())
            }
            _ => Access::Connect(address),
        });
    }
    Ok(named)
}

/// What may be reached. Nothing, unless something is named. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants(Arc<[Grant]>);

impl Grants {
    /// Whether this may be done.
    #[must_use]
    pub fn allow(&self, access: &Access) -> bool {
        self.0.iter().any(|grant| grant.allows(access))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }

    /// The environment variables that the plugin gets.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|grant| match grant {
            Grant::Env(name) => Some(name.as_str()),
            Grant::Connect(_) | Grant::Http { .. } | Grant::Read(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::PathBuf;

    fn schema() -> Value {
        json!({ "properties": {
            "url": { "type": "string", "x-connect": { "redis": 6379, "rediss": 6380 } },
            "web": { "type": "string", "x-connect": { "http": 80, "https": 443 } },
            "odd": { "type": "string", "x-connect": { "http": 9100, "ws": 9100 } },
            "path": { "type": "string", "x-read": true },
            "more": { "type": "array", "items": { "type": "string", "x-read": true } },
            "name": { "type": "string" },
            "defined": { "$ref": "#/$defs/defined" },
            "either": { "anyOf": [{ "$ref": "#/$defs/defined" }, { "type": "null" }] },
        }, "$defs": { "defined": { "properties": {
            "path": { "allOf": [{ "type": "string" }, { "x-read": true }] },
        }}}})
    }

    fn decided(settings: &Value, permission: &Permission) -> Decision {
        decide(&schema(), settings, permission).expect("it can be decided")
    }

    fn listed(granted: &Grants) -> String {
        granted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    fn refused(settings: &Value) -> String {
        let errors =
            decide(&schema(), settings, &Permission::default()).expect_err("it cannot be granted");
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// With everything spelled out, and these grants.
    fn explicit(grants: &[Grant]) -> Permission {
        Permission { implied: false, grants: grants.iter().cloned().collect() }
    }

    #[test]
    fn what_is_named_is_granted_and_nothing_else() {
        let cases = [
            (json!({}), ""),
            (json!({ "name": "redis://secret:6379" }), ""),
            (json!({ "defined": { "path": "a" } }), "--allow-read a"),
            (json!({ "either": { "path": "a" } }), ""),
            (json!({ "url": "redis://localhost" }), "--allow-connect localhost:6379"),
            (json!({ "url": "rediss://u:p@Example.COM./3" }), "--allow-connect example.com:6380"),
            (json!({ "url": "redis://[::1]:7" }), "--allow-connect [::1]:7"),
            (json!({ "url": "redis://0x7f000001:7" }), "--allow-connect 127.0.0.1:7"),
            (json!({ "web": "https://example.com/a?b" }), "--allow-http https://example.com:443"),
            (json!({ "odd": "http://example.com:80" }), "--allow-http http://example.com:80"),
            (json!({ "odd": "ws://example.com" }), "--allow-connect example.com:80"),
            (json!({ "web": "http://example.com:8080" }), "--allow-http http://example.com:8080"),
            (
                json!({ "path": "a/b", "more": ["c", "d"] }),
                "--allow-read a/b --allow-read c --allow-read d",
            ),
        ];
        for (settings, expected) in cases {
            let decision = decided(&settings, &Permission::default());
            assert_eq!(listed(&decision.granted), expected, "{settings}");
            assert_eq!(decision.missing().count(), 0, "{settings}");
        }
    }

    #[test]
    fn with_every_grant_spelled_out_the_settings_only_ask() {
        let settings = json!({ "web": "https://example.com/a/b?c", "path": "p" });
        let cases = [
            (vec![], vec!["web", "path"]),
            (vec![Grant::http("https://example.com")], vec!["path"]),
            (vec![Grant::http("https://example.com/a")], vec!["path"]),
            (vec![Grant::http("https://*.example.com")], vec!["web", "path"]),
            (vec![Grant::http("https://example.com/other")], vec!["web", "path"]),
            (vec![Grant::connect("example.com:443")], vec!["web", "path"]),
            (vec![Grant::http("https://example.com"), Grant::read("p")], vec![]),
        ];
        for (grants, missing) in cases {
            let grants: Vec<_> = grants.into_iter().map(|grant| grant.expect("a grant")).collect();
            let decision = decided(&settings, &explicit(&grants));
            let found: Vec<_> = decision.missing().map(|asked| asked.setting.as_str()).collect();
            assert_eq!(found, missing, "{grants:?}");
            assert_eq!(decision.asked.len(), 2);
            assert_eq!(decision.granted.iter().count(), grants.len(), "nothing is implied");
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
            assert_eq!(refused(&settings), expected, "{settings}");
        }
    }

    #[test]
    fn an_address_is_the_same_in_every_spelling_and_its_neighbours_are_not() {
        let settings = json!({ "url": "redis://127.0.0.1:6379", "web": "https://example.com" });
        let grants = decided(&settings, &Permission::default()).granted;
        let connects = |host: &str, port| {
            HostPort::new(host, port).is_ok_and(|address| grants.allow(&Access::Connect(address)))
        };
        let requests = |tls, host: &str, port| {
            HostPort::new(host, port).is_ok_and(|address| {
                grants.allow(&Access::Http(HttpOrigin { tls, address }, "/".into()))
            })
        };
        assert!(connects("127.0.0.1", 6379));
        assert!(connects("0x7f.1", 6379));
        assert!(connects("017700000001", 6379));
        assert!(connects("2130706433", 6379));
        assert!(!connects("127.0.0.1", 6380));
        assert!(!connects("localhost", 6379));
        assert!(!connects("::ffff:127.0.0.1", 6379));
        assert!(!connects("example.com", 443), "HTTP is not a raw connection");
        assert!(requests(true, "EXAMPLE.com.", 443));
        assert!(!requests(false, "example.com", 443));
        assert!(!requests(true, "evilexample.com", 443));
        assert!(!requests(true, "example.com.evil.org", 443));
        assert!(!requests(true, "", 443));
    }

    #[test]
    fn a_file_is_granted_by_its_very_name() {
        let grants = decided(&json!({ "path": "etc/app.toml" }), &Permission::default()).granted;
        let reads = |path: &str| grants.allow(&Access::Read(PathBuf::from(path)));
        assert!(reads("etc/app.toml"));
        for other in
            ["etc/app.toml/", "etc//app.toml", "./etc/app.toml", "etc", "etc/../etc/app.toml"]
        {
            assert!(!reads(other), "{other}");
        }
    }
}
