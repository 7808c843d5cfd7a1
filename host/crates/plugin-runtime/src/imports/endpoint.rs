//! Import `endpoint`: TCP and TLS connections to granted addresses.

use super::host_state::HostState;
use crate::{bindings::reloader::plugin as wit, guest_resource_types::Connection};
use reloader_net::DialError;
use reloader_policy::{Access, HostPort};
use reloader_util::sanitize::sanitize;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use wasmtime::component::Resource;
use wit::endpoint::{EndpointError, Target};

/// Maximum number of bytes that one read returns.
const MAX_READ_BYTES: usize = 64 * 1024;

impl wit::endpoint::Host for HostState {
    async fn connect(
        &mut self,
        to: Target,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Resource<Connection>, EndpointError>> {
        let address = match HostPort::new(&to.host, to.port) {
            Ok(address) => match self.check_access(&Access::Connect(address.clone())) {
                Ok(()) => address,
                Err(reason) => return Ok(Err(EndpointError::Denied(reason))),
            },
            Err(error) => return Ok(Err(EndpointError::Denied(error.to_string()))),
        };
        let limit = Duration::from_millis(timeout_ms.into());
        Ok(match self.context.egress.dial(&address, to.tls, limit).await {
            Ok(connection) => Ok(self.table.push(Connection(connection))?),
            Err(DialError::Denied(denied)) => {
                let reason = sanitize(&denied.to_string());
                self.call_denials.add(&reason);
                Err(EndpointError::Denied(reason))
            }
            Err(DialError::Failed(reason)) => Err(EndpointError::Failed(reason)),
        })
    }
}

impl wit::endpoint::HostConnection for HostState {
    async fn read(
        &mut self,
        connection: Resource<Connection>,
        max: u32,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, EndpointError>> {
        let stream = &mut self.table.get_mut(&connection)?.0.stream;
        let mut bytes = Vec::with_capacity((max as usize).clamp(1, MAX_READ_BYTES));
        let read = stream.read_buf(&mut bytes);
        Ok(match timeout(Duration::from_millis(timeout_ms.into()), read).await {
            Ok(Ok(0)) => Err(EndpointError::Closed),
            Ok(Ok(_)) => Ok(bytes),
            Ok(Err(error)) => Err(endpoint_error(&error)),
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
            Ok(Err(error)) => Err(endpoint_error(&error)),
            // An unknown number of the bytes was sent, so the guest cannot repeat the write.
            Err(_) => {
                Err(EndpointError::Failed("write timed out: the server does not read".into()))
            }
        })
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

fn endpoint_error(error: &io::Error) -> EndpointError {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => EndpointError::Closed,
        _ => EndpointError::Failed(error.to_string()),
    }
}
