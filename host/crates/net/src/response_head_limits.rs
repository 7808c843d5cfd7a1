//! Limits of response heads: size, header fields, and informational responses (`100 Continue`, `103 Early Hints`).

use http::Request;
use hyper::ext::on_informational;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::sync::Notify;

/// Maximum number of header fields in a response head, as set by `hyper`.
const MAX_HEADER_FIELDS: usize = 100;
/// Maximum number of informational responses before the final response. The size limit of a response head applies to
/// each of them.
const MAX_INFORMATIONAL_RESPONSES: u32 = 16;

/// Returns the error for a response head that `hyper` rejects for its size. `limit` names the limit in bytes.
pub(crate) fn head_too_large(limit: &dyn fmt::Display) -> String {
    format!(
        "invalid response head: too large ({limit}), too many header fields (at most {MAX_HEADER_FIELDS}), or an \
         invalid `content-length`"
    )
}

/// Counter of the informational responses to one HTTP/1 request. A server can send any number of them, and `hyper`
/// reads them all.
#[derive(Default)]
pub(crate) struct InformationalLimit {
    count: AtomicU32,
    exceeded: Notify,
}

impl InformationalLimit {
    /// Registers a counter of the informational responses to `request`.
    pub(crate) fn attach<B>(request: &mut Request<B>) -> Arc<Self> {
        let limit = Arc::<Self>::default();
        let counted = Arc::clone(&limit);
        on_informational(request, move |_| {
            let count = counted.count.fetch_add(1, Ordering::Relaxed);
            if count >= MAX_INFORMATIONAL_RESPONSES {
                counted.exceeded.notify_one();
            }
        });
        limit
    }

    /// Waits until the server exceeds [`MAX_INFORMATIONAL_RESPONSES`].
    pub(crate) async fn exceeded(&self) -> TooManyInformationalResponses {
        self.exceeded.notified().await;
        TooManyInformationalResponses
    }
}

/// Error: the server has sent more than [`MAX_INFORMATIONAL_RESPONSES`].
#[derive(Debug)]
pub(crate) struct TooManyInformationalResponses;

impl fmt::Display for TooManyInformationalResponses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "more than {MAX_INFORMATIONAL_RESPONSES} informational responses before the final response"
        )
    }
}
