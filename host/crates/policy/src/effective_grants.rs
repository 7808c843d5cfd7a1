//! Decides the effective grants of a plugin, from its schema, its settings and the operator's explicit grants.

use crate::{
    grant::{Grant, Grants},
    implied_grants::{GrantError, RequestedAccess, collect_requested},
    schema_annotations::Place,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Grants that an operator gives to one plugin: explicit ones, and whether settings imply more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// Whether the values of annotated settings imply grants. If false, the plugin gets only the explicit grants.
    pub implied: bool,
    /// Explicit grants, which the operator has written.
    pub grants: BTreeSet<Grant>,
}

/// Grants implied by settings, and no explicit grants.
impl Default for Permission {
    fn default() -> Self {
        Self { implied: true, grants: BTreeSet::new() }
    }
}

/// Decision for one plugin with one set of settings: accesses that the settings name, and effective grants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Accesses that the settings name.
    pub requested: Vec<RequestedAccess>,
    /// Effective grants: those that the plugin gets.
    pub granted: Grants,
    /// Effective grants as command-line flags. The caller redacts secrets in them.
    pub flags: Vec<String>,
}

impl Decision {
    /// Returns the accesses that the settings name and no grant allows.
    pub fn missing(&self) -> impl Iterator<Item = &RequestedAccess> {
        self.requested.iter().filter(|requested| !self.granted.allow(&requested.access))
    }
}

/// Decides what a plugin may reach: from the annotations of its schema, the settings that the operator wrote, and
/// the explicit grants.
///
/// `settings` must be valid for the schema. They must not contain defaults from the plugin's schema: otherwise a
/// plugin could grant itself access.
///
/// # Errors
///
/// A [`GrantError`] for each annotated setting whose value is not a valid path or URL.
pub fn decide(
    schema: &Value,
    settings: &Value,
    permission: &Permission,
) -> Result<Decision, Vec<GrantError>> {
    let (mut requested, mut errors) = (Vec::new(), Vec::new());
    collect_requested("", &Place::root(schema), settings, &mut requested, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut granted = permission.grants.clone();
    if permission.implied {
        granted.extend(requested.iter().map(|requested| requested.access.grant()));
    }
    let flags = granted.iter().map(ToString::to_string).collect();
    Ok(Decision { requested, granted: granted.into_iter().collect(), flags })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        grant::Access,
        normalized_host::{HostPort, HttpOrigin},
    };
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
        decide(&schema(), settings, permission).expect("valid settings")
    }

    fn listed(granted: &Grants) -> String {
        granted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    fn grant_errors(settings: &Value) -> String {
        let errors =
            decide(&schema(), settings, &Permission::default()).expect_err("an invalid setting");
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// Returns a permission with only these explicit grants: settings imply none.
    fn explicit(grants: &[Grant]) -> Permission {
        Permission { implied: false, grants: grants.iter().cloned().collect() }
    }

    #[test]
    fn annotated_settings_imply_exact_grants() {
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
    fn explicit_permission_implies_no_grants() {
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
            let denied: Vec<_> =
                decision.missing().map(|requested| requested.setting.as_str()).collect();
            assert_eq!(denied, missing, "{grants:?}");
            assert_eq!(decision.requested.len(), 2);
            assert_eq!(decision.granted.iter().count(), grants.len(), "an implied grant");
        }
    }

    #[test]
    fn invalid_annotated_setting_is_reported() {
        let cases = [
            (
                json!({ "url": "http://h" }),
                "setting `url`: expected a URL such as redis://… or rediss://…, not `http:`",
            ),
            (
                json!({ "url": "redis:///0" }),
                "setting `url`: expected a URL such as redis://… or rediss://…: the host is missing",
            ),
            (
                json!({ "web": "example.com" }),
                "setting `web`: expected a URL such as http://… or https://…: relative URL without a base",
            ),
            (json!({ "path": "" }), "setting `path`: expected a path, got an empty string"),
        ];
        for (settings, expected) in cases {
            assert_eq!(grant_errors(&settings), expected, "{settings}");
        }
    }

    /// All spellings of a granted host are allowed; similar hosts, other ports and other schemes are denied.
    #[test]
    fn granted_host_is_allowed_in_every_spelling() {
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
        assert!(!connects("example.com", 443), "an HTTP grant allows a raw connection");
        assert!(requests(true, "EXAMPLE.com.", 443));
        assert!(!requests(false, "example.com", 443));
        assert!(!requests(true, "evilexample.com", 443));
        assert!(!requests(true, "example.com.evil.org", 443));
        assert!(!requests(true, "", 443));
    }

    #[test]
    fn file_is_granted_by_exact_path() {
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
