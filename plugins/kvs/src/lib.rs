//! Source plugin `kvs` for Redis-compatible servers: a key, a hash, or all keys with a prefix.
//!
//! | module | |
//! |---|---|
//! | `kvs_settings` | settings of a source |
//! | `address` | server address, database and credentials |
//! | `query`, `prefix`, `json_object` | read of a key, a hash or a prefix, and conversion to one value |
//! | `client_tracking`, `keyspace_notifications` | the two kinds of watches |
//! | `connection`, `resp`, `error` | RESP connections, frames and errors |

mod address;
mod client_tracking;
mod connection;
mod error;
mod json_object;
mod keyspace_notifications;
mod kvs_settings;
mod prefix;
mod query;
mod resp;

use address::Address;
use client_tracking::ClientTracking;
use connection::{RespConnection, Server};
use error::Error;
use guest_sdk::{
    Event, Failure, Host, Outcome, RealtimeWatch, Reload,
    tracing::{debug, info},
};
use keyspace_notifications::KeyspaceNotifications;
pub use kvs_settings::Settings;
use query::Query;
use std::time::Duration;

/// Source that reads and watches a key, a hash or a prefix.
pub struct Kvs {
    server: Server,
    query: Query,
    keepalive: Duration,
    /// Connection that is reused by the next reload.
    connection: Option<RespConnection>,
    watch: Option<Watch>,
}

/// Active watch, by the mechanism that it uses.
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
            // The sum of the maximum keepalive and the maximum timeout is below the host's liveness limit.
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
    /// Reads the value over the previous connection, if any. If that connection is lost, reconnects
    /// immediately and reads again.
    fn read(&mut self) -> Result<Outcome, Error> {
        if let Some(mut connection) = self.connection.take() {
            match connection.receive_pending().and_then(|()| self.read_over(connection)) {
                Err(Error::Lost(error)) => debug!(%error, "connection lost, reconnecting"),
                outcome => return outcome,
            }
        }
        let connection = self.server.log_in()?;
        self.read_over(connection)
    }

    /// Reads the value and keeps the connection for the next read, unless the connection is lost.
    fn read_over(&mut self, mut connection: RespConnection) -> Result<Outcome, Error> {
        let read = self.query.read(&mut connection);
        if !matches!(read, Err(Error::Lost(_))) {
            self.connection = Some(connection);
        }
        Ok(read?.map_or(Outcome::Absent, Outcome::Changed))
    }

    /// Starts client tracking, or keyspace notifications if tracking is unavailable.
    fn start(&self) -> Result<Watch, Error> {
        match ClientTracking::start(&self.server, &self.query)? {
            Ok(tracking) => {
                debug!("watching with client tracking");
                Ok(Watch::ClientTracking(tracking))
            }
            Err(reply) => {
                let keyspace = KeyspaceNotifications::start(&self.server, &self.query)?;
                info!(%reply, "client tracking unavailable, watching with keyspace notifications");
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
