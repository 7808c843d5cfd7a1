//! Servers that break the TLS handshake.

use super::tcp::{Server, drip, flood, hold, tcp};
use std::{io::Write, time::Duration};

/// Kind of broken handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Bytes that are not TLS.
    Garbage,
    /// Stalled handshake: the server sends nothing.
    Stalled,
    /// Record header with a length above the maximum.
    LongRecord,
    /// Slow-drip handshake: one byte for each record, without end.
    Drip,
    /// Flood of empty records.
    EmptyRecords,
    /// ServerHello for a protocol version that the client has not offered.
    OldVersion,
    /// Connection closed during the handshake.
    Cut,
}

impl Tls {
    /// All kinds of broken handshakes.
    pub const ALL: [Self; 7] = [
        Self::Garbage,
        Self::Stalled,
        Self::LongRecord,
        Self::Drip,
        Self::EmptyRecords,
        Self::OldVersion,
        Self::Cut,
    ];

    /// Starts the server.
    ///
    /// # Panics
    ///
    /// If no port is free.
    #[must_use]
    pub fn serve(self) -> Server {
        tcp(move |stream| match self {
            Self::Garbage => {
                stream.write_all(b"\0\x01\x02this is something else\r\n")?;
                hold(stream)
            }
            Self::Stalled => hold(stream),
            Self::LongRecord => {
                stream.write_all(b"\x16\x03\x03\xff\xff")?;
                flood(stream, b"x")
            }
            Self::Drip => {
                // Header of a 16 MiB message, then one byte in each record.
                stream.write_all(b"\x16\x03\x03\0\x04\x02\xff\xff\xff")?;
                drip(stream, b"\x16\x03\x03\0\x01x", Duration::from_millis(20))
            }
            Self::EmptyRecords => flood(stream, b"\x16\x03\x03\0\0"),
            Self::OldVersion => {
                // ServerHello of TLS 1.0 with an RC4 cipher suite.
                let mut hello = b"\x16\x03\x01\0\x2a\x02\0\0\x26\x03\x01".to_vec();
                hello.extend([7; 32]);
                hello.extend(b"\0\0\x05\0");
                stream.write_all(&hello)?;
                hold(stream)
            }
            Self::Cut => stream.write_all(b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03"),
        })
    }
}
