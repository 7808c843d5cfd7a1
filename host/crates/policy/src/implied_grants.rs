//! Implied grants: the accesses that annotated settings name, such as the host of a URL or the path of a file.

use crate::{
    grant::Access,
    normalized_host::{HostPort, HttpOrigin},
    schema_annotations::Place,
};
use serde_json::Value;
use url::Url;

/// Access that a setting names, and that the plugin is expected to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedAccess {
    /// Path of the setting, with dots between the levels.
    pub setting: String,
    /// Access that the setting names.
    pub access: Access,
    /// Description of the access for messages. The caller redacts secrets in it.
    pub shown: String,
    /// Command-line flag that grants the access. The caller redacts secrets in it.
    pub flag: String,
}

/// Annotated setting whose value is not a valid path or URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting `{setting}`: {reason}")]
pub struct GrantError {
    /// Path of the setting, with dots between the levels.
    pub setting: String,
    /// Expected form of the value, and how the value differs from it.
    pub reason: String,
}

/// Collects the accesses that `value` and the values inside it name. `at` is the path of the setting.
pub(crate) fn collect_requested(
    at: &str,
    place: &Place<'_>,
    value: &Value,
    requested: &mut Vec<RequestedAccess>,
    errors: &mut Vec<GrantError>,
) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                collect_requested(&at, &place.member(name), value, requested, errors);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_requested(at, &place.item(index), item, requested, errors);
            }
        }
        Value::String(text) => match named_accesses(place, text) {
            Ok(accesses) => requested.extend(accesses.into_iter().map(|access| RequestedAccess {
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

/// Returns the accesses that a string names, by the annotations of its setting.
fn named_accesses(place: &Place<'_>, text: &str) -> Result<Vec<Access>, String> {
    let mut accesses = Vec::new();
    if place.is_read() {
        if text.is_empty() {
            return Err("expected a path, got an empty string".into());
        }
        accesses.push(Access::Read(text.into()));
    }
    if let Some(schemes) = place.schemes() {
        let expected = || {
            let urls: Vec<_> = schemes.iter().map(|(scheme, _)| format!("{scheme}://…")).collect();
            format!("expected a URL such as {}", urls.join(" or "))
        };
        let url = Url::parse(text).map_err(|error| format!("{}: {error}", expected()))?;
        let default_port = schemes
            .iter()
            .find_map(|(scheme, port)| (*scheme == url.scheme()).then_some(port))
            .ok_or_else(|| format!("{}, not `{}:`", expected(), url.scheme()))?;
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("{}: the host is missing", expected()))?;
        // The default port in the annotation counts for custom schemes only. The plugin cannot change the default
        // port of a well-known scheme such as `https`.
        let annotated_port = || default_port.as_u64().and_then(|port| port.try_into().ok());
        let port = url.port_or_known_default().or_else(annotated_port);
        let port = port.ok_or_else(|| format!("{}: the port is missing", expected()))?;
        let address = HostPort::new(host, port).map_err(|error| error.to_string())?;
        accesses.push(match url.scheme() {
            // A grant of HTTP requests does not allow raw connections to the same port.
            "http" | "https" => {
                let tls = url.scheme() == "https";
                Access::Http(HttpOrigin { tls, address }, url.path().into())
            }
            _ => Access::Connect(address),
        });
    }
    Ok(accesses)
}
