//! Settings: the attack, its target, and the call that performs it.

use crate::attack::Attack;

/// Settings: the attack, its target, and the call that performs it.
#[guest_sdk::settings]
#[allow(dead_code, reason = "of some settings, only the schema is used: it grants access")]
pub struct Settings {
    /// Attack to perform.
    pub attack: Attack,
    /// Call that performs the attack.
    #[setting(default = "reload")]
    pub when: Call,
    /// Target of the attack, such as an address or a path.
    #[setting(default = "")]
    pub to: String,
    /// Address that this setting grants.
    #[setting(connect(tcp = 1, http = 80, https = 443))]
    pub address: Option<String>,
    /// File that this setting grants.
    #[setting(read)]
    pub granted: Option<String>,
    /// Secret, to check that it is redacted.
    #[setting(secret)]
    pub secret: Option<String>,
    /// Setting with a reference to a secret as the schema's default. The host must not resolve it.
    #[setting(default = "${env:PW}")]
    pub wish: String,
}

/// Call of the plugin interface.
#[guest_sdk::settings]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `open`.
    Open,
    /// `reload`.
    Reload,
    /// `arm`.
    Arm,
    /// `next`.
    Next,
}
