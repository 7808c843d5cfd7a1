//! Traits behind the handles of the API: implemented by the component's imports, and by the fake host for tests.

use crate::{
    connection::{ConnectionBackend, EndpointError, Target},
    file_watch::{FileError, FileWatchBackend},
    http::{HttpError, Request, Response},
};
use std::time::Duration;

/// Implementation behind a [`Host`](crate::Host): calls the real host, or a fake one in tests.
pub(crate) trait Backend: Clone {
    fn read_file(&self, path: &str) -> Result<Vec<u8>, FileError>;
    fn watch_file(&self, path: &str) -> Result<Box<dyn FileWatchBackend>, FileError>;
    fn connect(
        &self,
        to: &Target,
        timeout: Duration,
    ) -> Result<Box<dyn ConnectionBackend>, EndpointError>;
    fn send(&self, request: Request) -> Result<Response, HttpError>;
}
