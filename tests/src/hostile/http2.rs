//! HTTP/2 frame floods.

use super::tcp::{Server, tcp};
use crate::certificates::Identity;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    io::{self, Read, Write},
    sync::Arc,
};

/// Kind of frame that the server sends without end. Most of them are sent on the stream of the
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http2 {
    /// Ping flood: each PING frame requires an acknowledgement (CVE-2019-9512).
    Pings,
    /// Settings flood: each SETTINGS frame requires an acknowledgement (CVE-2019-9515).
    Settings,
    /// Reset flood: RST_STREAM frames for one stream.
    Resets,
    /// WINDOW_UPDATE frames on the connection.
    WindowUpdates,
    /// PRIORITY frames, which are deprecated.
    Priorities,
    /// Frames of an unknown type.
    Unknown,
    /// Informational responses (103) without a final response.
    Interim,
    /// Continuation flood: a header block without end (CVE-2024-27316).
    Continuations,
    /// Continuation flood with empty frames.
    EmptyContinuations,
    /// Empty DATA frames without end (CVE-2019-9518).
    EmptyData,
    /// PUSH_PROMISE frames, although the client has not enabled server push.
    Promises,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PROMISE: u8 = 5;
const PING: u8 = 6;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// `:status: 200` in HPACK.
const OK: &[u8] = b"\x88";
/// `:status: 103` in HPACK.
const EARLY_HINTS: &[u8] = b"\x08\x03103";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

impl Http2 {
    /// All kinds of frame floods.
    pub const ALL: [Self; 11] = [
        Self::Pings,
        Self::Settings,
        Self::Resets,
        Self::WindowUpdates,
        Self::Priorities,
        Self::Unknown,
        Self::Interim,
        Self::Continuations,
        Self::EmptyContinuations,
        Self::EmptyData,
        Self::Promises,
    ];

    /// Returns the frames to send once, and the frame to repeat without end.
    fn frames(self) -> (Vec<u8>, Vec<u8>) {
        let open = frame(HEADERS, 0, 1, OK);
        match self {
            Self::Pings => (vec![], frame(PING, 0, 0, b"12345678")),
            Self::Settings => (vec![], frame(SETTINGS, 0, 0, b"\0\x04\0\0\xff\xff")),
            Self::Resets => (vec![], frame(RESET, 0, 1, &[0, 0, 0, 8])),
            Self::WindowUpdates => (vec![], frame(WINDOW, 0, 0, &[0, 0, 0, 1])),
            Self::Priorities => (vec![], frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
            Self::Unknown => (vec![], frame(99, 0, 0, &[b'x'; 1000])),
            Self::Interim => (vec![], frame(HEADERS, END_HEADERS, 1, EARLY_HINTS)),
            Self::Continuations => (open, frame(CONTINUATION, 0, 1, b"\0\x01x\x01y")),
            Self::EmptyContinuations => (open, frame(CONTINUATION, 0, 1, b"")),
            Self::EmptyData => (frame(HEADERS, END_HEADERS, 1, OK), frame(DATA, 0, 1, b"")),
            Self::Promises => {
                let mut promise = vec![0, 0, 0, 2];
                promise.extend(b"\x82\x84\x87\x41\x01a");
                (vec![], frame(PROMISE, END_HEADERS, 1, &promise))
            }
        }
    }

    /// Starts a TLS server with this certificate that sends the flood.
    ///
    /// # Panics
    ///
    /// If no port is free or the certificate is invalid.
    #[must_use]
    pub fn serve(self, identity: &Identity) -> Server {
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let mut config = config.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![b"h2".into()];
        let config = Arc::new(config);
        tcp(move |stream| {
            let tls = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(tls, stream);
            let (first, flood) = self.frames();
            stream.write_all(&frame(SETTINGS, 0, 0, b""))?;
            read_request(&mut stream)?;
            stream.write_all(&first)?;
            let many = flood.repeat(65_536_usize.div_ceil(flood.len()));
            loop {
                // The client's frames are not read, so that its send buffer fills up.
                stream.write_all(&many)?;
            }
        })
    }
}

/// Reads up to the first HEADERS frame, which is the request.
fn read_request(stream: &mut impl Read) -> io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        io::copy(&mut stream.take(length.into()), &mut io::sink())?;
        if head[3] == HEADERS {
            return Ok(());
        }
    }
}
