//! The source `kvs`: Redis, Valkey and kin. A key, a hash, or all keys with a prefix.
//!
//! | file | |
//! |---|---|
//! | `address` | the URL and the settings that refine it |
//! | `query`, `prefix` | what is read, and how it becomes one value |
//! | `tracking`, `keyspace` | the two ways to be told of changes |
//! | `connection`, `frame`, `error` | the protocol |

mod address;
mod connection;
mod error;
mod resp;
mod keyspace_notifications;
mod prefix;
mod query;
mod client_tracking;

use address::Address;
use connection::{RespConnection, Server};
use error::Error;
use guest_sdk::{
    Event, Failure, Host, Outcome, RealtimeWatch, Reload,
    tracing::{debug, info},
};
use keyspace_notifications::KeyspaceNotifications;
use std::time::Duration;
use query::Query;
use client_tracking::ClientTracking;

/// Redis, Valkey and kin: a key, a hash, or all keys with a prefix. Set exactly one of `key`, `hash`
/// and `prefix`.
#[guest_sdk::settings]
pub struct Settings {
    /// The server: `redis://[user[:password]@]host[:port][/database]`, or `rediss://…` for TLS.
    #[setting(connect(redis = 6379, rediss = 6379))]
    pub url: String,
    /// A key that holds a string: the value is the string, as it is.
    pub key: Option<String>,
    /// A key that holds a hash: the value is a JSON object of its fields, sorted by name.
    pub hash: Option<String>,
    /// What keys begin with: the value is a JSON object of all these keys that hold strings, sorted
    /// by name, and named without the prefix.
    pub prefix: Option<String>,
    /// The user to log in as, if the server has several. Wins over the one in the URL.
    pub username: Option<String>,
    /// The password. Wins over the one in the URL, and is kept out of sight.
    #[setting(secret)]
    pub password: Option<String>,
    /// The number of the database. Wins over the one in the URL; 0 when neither names one.
    pub database: Option<u32>,
    /// What the content of `key` is, e.g. `application/json`. It is not guessed.
    pub media_type: Option<String>,
    /// How many keys may begin with `prefix`, whatever they hold. More are a failure.
    #[setting(default = 10000)]
    pub max_keys: u32,
    /// After how many seconds without news the watch makes sure that the server is there: 1 to 30.
    #[setting(default = 15)]
    pub keepalive: u32,
    /// How many seconds connecting and each answer may take: 1 to 10.
    #[setting(default = 5)]
    pub timeout: u32,
}

/// A value in Redis.
pub struct Kvs {
    server: Server,
    query: Query,
    keepalive: Duration,
    /// Kept from one reload to the next.
    connection: Option<RespConnection>,
    watch: Option<Watch>,
}

/// The way in which the server tells of changes.
enum Watch {
    ClientTracking(ClientTracking),
    KeyspaceNotifications(KeyspaceNotifications),
}

impl Reload for Kvs {
    type Config = Settings;

    fn new(config: Settings, host: &Host) -> Result<Self, Failure> {
        let seconds = |name: &str, value: u32, max: u32| match value {
            value if (1..=max).contains(&value) => Ok(Duration::from_secs(value.into())),
            _ => Err(Failure::config(format_args!("`{name}` must be 1 to {max} seconds"))),
        };
        Ok(Self {
            query: Query::new(&config)?,
            // An event a minute is owed: a silence and then an unanswered question fit in.
            keepalive: seconds("keepalive", config.keepalive, 30)?,
            server: Server {
                host: host.clone(),
                address: Address::new(&config)?,
                timeout: seconds("timeout", config.timeout, 10)?,
            },
            connection: None,
            watch: None,
        })
    }

    fn reload(&mut self, _known: Option<&str>) -> Result<Outcome, Failure> {
        self.read().map_err(|error| self.failure(error))
    }
}

impl RealtimeWatch for Kvs {
    fn watch(&mut self, _known: Option<&str>) -> Result<(), Failure> {
        let watch = self.start().map_err(|error| self.failure(error))?;
        self.watch = Some(watch);
        Ok(())
    }

    fn next(&mut self) -> Result<Event, Failure> {
        let event = match &mut self.watch {
            None => return Err(Failure::permanent("not watching")),
            Some(Watch::ClientTracking(tracking)) => tracking.next(&self.query, self.keepalive),
            Some(Watch::KeyspaceNotifications(keyspace)) => keyspace.next(self.keepalive),
        };
        event.map_err(|error| self.failure(error))
    }
}

impl Kvs {
    /// Reads over the connection of the last time, if there is one. That it may have been closed
    /// since is no failure: then a fresh one is tried at once.
    fn read(&mut self) -> Result<Outcome, Error> {
        if let Some(mut connection) = self.connection.take() {
            match connection.receive_pending().and_then(|()| self.read_over(connection)) {
                Err(Error::Lost(why)) => debug!(%why, "the kept connection is dead; reconnecting"),
                outcome => return outcome,
            }
        }
        let connection = self.server.log_in()?;
        self.read_over(connection)
    }

    /// Reads, and keeps the connection for the next time unless it is lost.
    fn read_over(&mut self, mut connection: RespConnection) -> Result<Outcome, Error> {
        let read = self.query.read(&mut connection);
        if !matches!(read, Err(Error::Lost(_))) {
            self.connection = Some(connection);
        }
        Ok(read?.map_or(Outcome::Absent, Outcome::Changed))
    }

    fn start(&self) -> Result<Watch, Error> {
        match ClientTracking::start(&self.server, &self.query)? {
            Ok(tracking) => {
                debug!("watching by tracking");
                Ok(Watch::ClientTracking(tracking))
            }
            Err(reply) => {
                let keyspace = KeyspaceNotifications::start(&self.server, &self.query)?;
                info!(%reply, "no tracking here; watching by keyspace notifications");
                Ok(Watch::KeyspaceNotifications(keyspace))
            }
        }
    }

    fn failure(&self, error: Error) -> Failure {
        error.into_failure(&self.server.address.target)
    }
}

guest_sdk::export!(Kvs: Reload + RealtimeWatch);

#[cfg(test)]
mod tests;
