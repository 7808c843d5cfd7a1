//! Server address, database and credentials, from the URL and the settings that override it.

use crate::kvs_settings::Settings;
use fluent_uri::{Uri, component::Authority, pct_enc::EStr};
use guest_sdk::{Failure, Target};

/// Server address with database and credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) target: Target,
    pub(crate) database: u32,
    pub(crate) login: Option<Login>,
}

/// Credentials of `AUTH`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// User name. `None` stands for the user `default`, the only user before Redis 6.
    pub(crate) user: Option<String>,
    pub(crate) password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Port of a URL without a port.
const DEFAULT_PORT: u16 = 6379;
/// Syntax of the setting `url`, for error messages.
const URL_SYNTAX: &str =
    "`url` must be `redis://[user[:password]@]host[:port][/database]`, or `rediss://…`";

impl Address {
    /// Parses the settings. Error messages do not contain the URL, which may include a password.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Failure> {
        let invalid = |why: &str| Failure::config(format_args!("{URL_SYNTAX}; {why}"));

        let uri = Uri::parse(settings.url.as_str()).map_err(|_| invalid("invalid URL"))?;
        let tls = match uri.scheme().as_str().to_ascii_lowercase().as_str() {
            "redis" => false,
            "rediss" => true,
            "unix" | "redis+unix" | "redis-socket" => {
                return Err(invalid("unix sockets are not supported"));
            }
            _ => return Err(invalid("unsupported scheme")),
        };
        if uri.query().is_some() || uri.fragment().is_some() {
            return Err(invalid("a query (`?`) or fragment (`#`) is not allowed"));
        }
        let authority = uri.authority().ok_or_else(|| invalid("`//` is missing"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(invalid("the host is missing"));
        }
        let port = match authority.port().filter(|port| !port.is_empty()) {
            None => DEFAULT_PORT,
            Some(port) => port.as_str().parse().map_err(|_| invalid("invalid port"))?,
        };
        let url_database = match uri.path().as_str().trim_start_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| invalid("the database must be a number"))?,
        };
        Ok(Self {
            target: Target { host: host.to_owned(), port, tls },
            database: settings.database.unwrap_or(url_database),
            login: login(&authority, settings)
                .map_err(|()| invalid("the user or password is not UTF-8"))?,
        })
    }
}

/// Returns the credentials in the settings, or else those in the URL. Fails if those in the URL are not UTF-8.
fn login(authority: &Authority<'_>, settings: &Settings) -> Result<Option<Login>, ()> {
    let (user, password) = match authority.userinfo() {
        None => (None, None),
        Some(info) => match info.split_once(':') {
            None => (Some(percent_decoded(info)?), None),
            Some((user, password)) => {
                (Some(percent_decoded(user)?), Some(percent_decoded(password)?))
            }
        },
    };
    let user = settings.username.clone().or(user).filter(|user| !user.is_empty());
    let password = settings.password.clone().or(password).filter(|text| !text.is_empty());
    Ok(match (user, password) {
        (None, None) => None,
        // For a user without a password (`nopass`), the server accepts any password.
        (user, password) => Some(Login { user, password: password.unwrap_or_default() }),
    })
}

fn percent_decoded<E: fluent_uri::pct_enc::Encoder>(text: &EStr<E>) -> Result<String, ()> {
    text.decode().to_string().map(Into::into).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::settings;

    fn parse(url: &str) -> Result<Address, Failure> {
        Address::new(&Settings { url: url.into(), ..settings() })
    }

    fn login(user: &str, password: &str) -> Option<Login> {
        let user = Some(user.to_owned()).filter(|user| !user.is_empty());
        Some(Login { user, password: password.into() })
    }

    #[test]
    fn url_sets_server_database_and_user() {
        let cases = [
            ("redis://db", "db", 6379, false, 0, None),
            ("redis://db/", "db", 6379, false, 0, None),
            ("REDISS://db:7000/3", "db", 7000, true, 3, None),
            ("redis://[::1]:7000", "::1", 7000, false, 0, None),
            ("redis://127.0.0.1:/1", "127.0.0.1", 6379, false, 1, None),
            ("redis://:p%40ss%3A@db", "db", 6379, false, 0, login("", "p@ss:")),
            ("redis://app:a:b@db", "db", 6379, false, 0, login("app", "a:b")),
            ("redis://app@db", "db", 6379, false, 0, login("app", "")),
        ];
        for (url, host, port, tls, database, login) in cases {
            let target = Target { host: host.into(), port, tls };
            assert_eq!(parse(url), Ok(Address { target, database, login }), "{url}");
        }
    }

    #[test]
    fn invalid_url_error_hides_password() {
        for (url, why) in [
            ("hunter2", "invalid URL"),
            ("redis:db", "`//` is missing"),
            ("redis://:hunter2@", "host is missing"),
            ("http://hunter2@db", "unsupported scheme"),
            ("unix:///run/hunter2.sock", "unix sockets"),
            ("redis://:hunter2@db:99999", "invalid port"),
            ("redis://:hunter2@db/app", "must be a number"),
            ("redis://:hunter2@db/1?x=y", "`?`"),
            ("redis://:hunter2%FF@db", "UTF-8"),
        ] {
            let failure = parse(url).unwrap_err();
            assert!(failure.message.contains(why), "{url}: {failure}");
            assert!(!failure.message.contains("hunter2"), "{failure}");
            assert_eq!(failure.kind, guest_sdk::FailureKind::Config);
        }
    }

    #[test]
    fn settings_override_url() {
        let address = Address::new(&Settings {
            url: "redis://app:old@db/1".into(),
            password: Some("new".into()),
            database: Some(2),
            ..settings()
        });
        let address = address.unwrap();
        assert_eq!((address.database, address.login), (2, login("app", "new")));
    }

    #[test]
    fn debug_output_hides_password() {
        let address = parse("redis://app:hunter2@db").unwrap();
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
