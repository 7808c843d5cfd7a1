//! What is said to whoever wants to speak TLS.

use super::{Server, drip, flood, hold, tcp};
use std::{io::Write, time::Duration};

/// In which way TLS is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Not TLS at all.
    Garbage,
    /// Nothing is ever said.
    Stalled,
    /// A record that promises more than a record can hold.
    LongRecord,
    /// A handshake in records of one byte, which never comes to an end.
    Drip,
    /// Records without content, as fast as they are taken.
    EmptyRecords,
    /// An answer for a version that nobody offered.
    OldVersion,
    /// The connection ends in the midst of the handshake.
    Cut,
}

impl Tls {
    /// All ways.
    pub const ALL: [Self; 7] = [
        Self::Garbage,
        Self::Stalled,
        Self::LongRecord,
        Self::Drip,
        Self::EmptyRecords,
        Self::OldVersion,
        Self::Cut,
    ];

    /// A server that does so.
    ///
    /// # Panics
    ///
    /// When there is no port left.
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
                // A message of 16 MiB, of which each record brings one byte.
                stream.write_all(b"\x16\x03\x03\0\x04\x02\xff\xff\xff")?;
                drip(stream, b"\x16\x03\x03\0\x01x", Duration::from_millis(20))
            }
            Self::EmptyRecords => flood(stream, b"\x16\x03\x03\0\0"),
            Self::OldVersion => {
                // A ServerHello of TLS 1.0, with a cipher that is long gone.
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
