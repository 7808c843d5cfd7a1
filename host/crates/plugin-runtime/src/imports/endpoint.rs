//! The import `endpoint`.

use super::{View, wit};
use reloader_net::{self, DialError};
use reloader_policy::{Access, HostPort};
use reloader_util::sanitize::sanitize;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use wasmtime::component::Resource;
use wit::endpoint::{EndpointError, Target};

/// A connection that a guest holds.
pub struct Connection(reloader_net::Connection);

/// The most that one read hands over.
const READ_MAX: usize = 64 * 1024;

impl wit::endpoint::Host for View {
    async fn connect(
        &mut self,
        to: Target,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Resource<Connection>, EndpointError>> {
        let address = match HostPort::new(&to.host, to.port) {
            Ok(address) => match self.may(&Access::Connect(address.clone())) {
                Ok(()) => address,
                Err(why) => return Ok(Err(EndpointError::Denied(why))),
            },
            Err(error) => return Ok(Err(EndpointError::Denied(error.to_string()))),
        };
        let limit = Duration::from_millis(timeout_ms.into());
        Ok(match self.surroundings.line.dial(&address, to.tls, limit).await {
            Ok(connection) => Ok(self.table.push(Connection(connection))?),
            Err(DialError::Refused(refused)) => {
                let why = sanitize(&refused.to_string());
                self.objections.add(&why);
                Err(EndpointError::Denied(why))
            }
            Err(DialError::Failed(why)) => Err(EndpointError::Failed(why)),
        })
    }
}

impl wit::endpoint::HostConnection for View {
    async fn read(
        &mut self,
        connection: Resource<Connection>,
        max: u32,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, EndpointError>> {
        let stream = &mut self.table.get_mut(&connection)?.0.stream;
        let mut bytes = Vec::with_capacity((max as usize).clamp(1, READ_MAX));
        let read = stream.read_buf(&mut bytes);
        Ok(match timeout(Duration::from_millis(timeout_ms.into()), read).await {
            Ok(Ok(0)) => Err(EndpointError::Closed),
            Ok(Ok(_)) => Ok(bytes),
            Ok(Err(error)) => Err(explain(&error)),
            Err(_) => Err(EndpointError::TimedOut),
        })
    }

    async fn write(
        &mut self,
        connection: Resource<Connection>,
        bytes: Vec<u8>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<(), EndpointError>> {
        let stream = &mut self.table.get_mut(&connection)?.0.stream;
        let write = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        Ok(match timeout(Duration::from_millis(timeout_ms.into()), write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(explain(&error)),
            // Nobody knows how much of it is on its way.
            Err(_) => {
                Err(EndpointError::Failed("the other side does not take what is sent".into()))
            }
        })
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

fn explain(error: &io::Error) -> EndpointError {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => EndpointError::Closed,
        _ => EndpointError::Failed(error.to_string()),
    }
}
