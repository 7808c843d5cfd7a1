//! HTTP/2 by whoever wants to keep the other side busy.

use super::{Server, tcp};
use crate::Identity;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    io::{self, Read, Write},
    sync::Arc,
};

/// What there is a flood of. All but `Pings`, `Settings` and `Resets` come after a request, on its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http2 {
    /// Each is to be answered.
    Pings,
    /// The same.
    Settings,
    /// Of a stream that was given up, again and again.
    Resets,
    /// Of nothing.
    WindowUpdates,
    /// Of no meaning.
    Priorities,
    /// Of a kind that nobody knows.
    Unknown,
    /// Heads before the head of the response.
    Interim,
    /// The head of the response goes on for ever.
    Continuations,
    /// The same, and there is nothing in it.
    EmptyContinuations,
    /// The body goes on for ever, and there is nothing in it.
    EmptyData,
    /// Streams that the server promises, and nobody has asked for.
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

/// `:status: 200` and `:status: 103`, as HPACK writes them.
const OK: &[u8] = b"\x88";
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
    /// All of them.
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

    /// What comes first, and what comes after it for ever.
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

    /// A server that does so, as whom it says.
    ///
    /// # Panics
    ///
    /// When there is no port left, or it cannot be that one.
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
                // What it answers is not read, so that it cannot be sent either, some day.
                stream.write_all(&many)?;
            }
        })
    }
}

/// Reads until a request is there: its first frame with a head.
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
