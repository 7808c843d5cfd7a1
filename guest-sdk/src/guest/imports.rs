//! Implementation of [`Host`](crate::Host) with the component's imports.

use super::{
    bindings::source::reloader::plugin::{endpoint, files},
    http,
};
use crate::{
    EndpointError, FileError, HttpError, Request, Response, Target, backend::Backend,
    connection::ConnectionBackend, file_watch::FileWatchBackend,
};
use std::time::Duration;

#[derive(Clone, Copy)]
pub(crate) struct Imports;

impl Backend for Imports {
    fn read_file(&self, path: &str) -> Result<Vec<u8>, FileError> {
        Ok(files::read(path)?)
    }

    fn watch_file(&self, path: &str) -> Result<Box<dyn FileWatchBackend>, FileError> {
        Ok(Box::new(files::watch(path)?))
    }

    fn connect(
        &self,
        to: &Target,
        timeout: Duration,
    ) -> Result<Box<dyn ConnectionBackend>, EndpointError> {
        let target = endpoint::Target { host: to.host.clone(), port: to.port, tls: to.tls };
        Ok(Box::new(endpoint::connect(&target, milliseconds(timeout))?))
    }

    fn send(&self, request: Request) -> Result<Response, HttpError> {
        http::send(request)
    }
}

impl FileWatchBackend for files::FileWatch {
    fn wait(&mut self, timeout: Duration) -> Result<bool, FileError> {
        Ok(files::FileWatch::wait(self, milliseconds(timeout))?)
    }
}

impl ConnectionBackend for endpoint::Connection {
    fn read(&mut self, max: usize, timeout: Duration) -> Result<Vec<u8>, EndpointError> {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        Ok(endpoint::Connection::read(self, max, milliseconds(timeout))?)
    }

    fn write(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), EndpointError> {
        Ok(endpoint::Connection::write(self, bytes, milliseconds(timeout))?)
    }
}

fn milliseconds(duration: Duration) -> u32 {
    duration.as_millis().try_into().unwrap_or(u32::MAX)
}

impl From<files::FileError> for FileError {
    fn from(error: files::FileError) -> Self {
        match error {
            files::FileError::NotFound => Self::NotFound,
            files::FileError::Denied(message) => Self::Denied(message),
            files::FileError::TooLarge(message) => Self::TooLarge(message),
            files::FileError::Failed(message) => Self::Failed(message),
        }
    }
}

impl From<endpoint::EndpointError> for EndpointError {
    fn from(error: endpoint::EndpointError) -> Self {
        match error {
            endpoint::EndpointError::Denied(message) => Self::Denied(message),
            endpoint::EndpointError::TimedOut => Self::TimedOut,
            endpoint::EndpointError::Closed => Self::Closed,
            endpoint::EndpointError::Failed(message) => Self::Failed(message),
        }
    }
}
