//! Settings of the plugin `kvs`.

/// Key, hash, or all keys with a prefix in a Redis-compatible server. Set exactly one of `key`, `hash` and
/// `prefix`.
#[guest_sdk::settings]
pub struct Settings {
    /// URL of the server: `redis://[user[:password]@]host[:port][/database]`, or `rediss://…` for TLS.
    #[setting(connect(redis = 6379, rediss = 6379))]
    pub url: String,
    /// Key of a string. The value is the string, byte for byte.
    pub key: Option<String>,
    /// Key of a hash. The value is a JSON object with the fields of the hash, sorted by name.
    pub hash: Option<String>,
    /// Prefix of the keys. The value is a JSON object with all string keys that have the prefix, sorted by
    /// name. The names do not include the prefix.
    pub prefix: Option<String>,
    /// User name. Takes precedence over the one in the URL.
    pub username: Option<String>,
    /// Password. Takes precedence over the one in the URL. The host treats it as secret.
    #[setting(secret)]
    pub password: Option<String>,
    /// Database number. Takes precedence over the one in the URL. The default is 0.
    pub database: Option<u32>,
    /// Media type of the value of `key`, e.g. `application/json`. The plugin does not detect the media type.
    pub media_type: Option<String>,
    /// Maximum number of keys with `prefix`, of any type. The read fails if there are more.
    #[setting(default = 10000)]
    pub max_keys: u32,
    /// Time in seconds without data after which the watch checks the connection with `PING`: 1 to 30.
    #[setting(default = 15)]
    pub keepalive: u32,
    /// Timeout in seconds of the connection attempt and of each reply: 1 to 10.
    #[setting(default = 5)]
    pub timeout: u32,
}
