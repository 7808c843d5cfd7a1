//! Pure policy decisions about plugins: grants, address policy, credentials, and validation of settings.
//!
//! A plugin may access the hosts and files that its annotated settings name, and those that the operator grants
//! explicitly. Annotations in the plugin's JSON Schema mark the settings that imply a grant.
//!
//! - `effective_grants`: decides the effective grants of a plugin, from its schema, its settings and the operator's
//!   explicit grants.
//! - `schema_annotations`, `implied_grants`: the settings that imply a grant, and the access that each one names.
//! - `grant`, `normalized_host`: grants, and the normalised hosts and origins that they compare.
//! - `address_policy`: which resolved addresses may be dialled (SSRF protection).
//! - `http_origin_credential`: credentials that the host adds to requests.
//! - `plugin_settings`, `schema_limits`: validation of settings against an untrusted schema.
//!
//! The crate performs no I/O: it resolves no names, opens no files and dials no addresses. Its fuzz targets
//! therefore need no network and no async runtime.
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

mod address_policy;
mod effective_grants;
mod grant;
mod http_origin_credential;
mod implied_grants;
mod normalized_host;
pub mod plugin_settings;
pub mod schema_annotations;
mod schema_limits;

pub use address_policy::{
    AddressKind, AddressPolicy, AddressRange, AddressRangeError, DeniedAddress,
};
pub use effective_grants::{Decision, Permission, decide};
pub use grant::{Access, Grant, GrantSyntaxError, Grants, Hosts};
pub use http_origin_credential::{Credential, CredentialError, CredentialHeader};
pub use implied_grants::{GrantError, RequestedAccess};
pub use normalized_host::{AddressError, HostPort, HttpOrigin};
