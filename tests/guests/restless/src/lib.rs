//! A plugin that does what its setting says, however bad. Each deed has a test in `tests/tests/sandbox.rs`.

use guest_sdk::{Failure, Host, Outcome, Reload, Request, Snapshot, Target, tracing};
use std::time::Duration;

/// What to do, and to what.
#[guest_sdk::settings]
pub struct Settings {
    /// What to do when the source is read.
    pub deed: Deed,
    /// To what.
    #[setting(default = "")]
    pub to: String,
    /// A file that is granted.
    #[setting(read)]
    pub granted: Option<String>,
    /// A secret, to see whether it is ever shown.
    #[setting(secret)]
    pub secret: Option<String>,
}

/// What to do.
#[guest_sdk::settings]
#[derive(Debug)]
pub enum Deed {
    /// Panics.
    Panic,
    /// Says something in the log.
    Log,
    /// Says more in the log than anybody wants to read.
    Flood,
    /// Reads a file.
    Read,
    /// Reads a file in its own way.
    Open,
    /// Connects.
    Connect,
    /// Connects in its own way.
    Socket,
    /// Sends a request.
    Request,
    /// Looks at its environment.
    Environment,
    /// Computes without end.
    Spin,
    /// Takes memory without end.
    Grow,
    /// Answers with a value that is too large.
    Huge,
}

pub struct Restless {
    settings: Settings,
    host: Host,
}

impl Reload for Restless {
    type Config = Settings;

    fn new(settings: Settings, host: &Host) -> Result<Self, Failure> {
        Ok(Self { settings, host: host.clone() })
    }

    fn reload(&mut self, _known: Option<&str>) -> Result<Outcome, Failure> {
        let to = self.settings.to.as_str();
        let answer = match self.settings.deed {
            Deed::Panic => panic!("that was to be expected"),
            Deed::Log => {
                tracing::warn!(answer = 42, who = to, "something to say\n\u{1b}[31m");
                "said".into()
            }
            Deed::Flood => {
                for number in 0..100_000 {
                    tracing::warn!(number, "and on");
                }
                "said".into()
            }
            Deed::Read => String::from_utf8_lossy(&self.host.read_file(to)?).into_owned(),
            Deed::Open => std::fs::read_to_string(to)?,
            Deed::Connect => {
                let (host, port) = to.rsplit_once(':').unwrap_or((to, "0"));
                let port = port.parse().map_err(Failure::config)?;
                let target = Target { host: host.into(), port, tls: false };
                self.host.connect(&target, Duration::from_secs(1))?;
                "connected".into()
            }
            Deed::Socket => {
                std::net::TcpStream::connect(to)?;
                "connected".into()
            }
            Deed::Request => self.host.send(Request::get(to))?.status.to_string(),
            Deed::Environment => {
                format!("{:?} {:?}", std::env::vars().count(), std::env::args().count())
            }
            Deed::Spin => loop {
                std::hint::black_box(());
            },
            Deed::Grow => {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1_u8; 1 << 20]);
                    std::hint::black_box(&all);
                }
            }
            Deed::Huge => "x".repeat(20 << 20),
        };
        Ok(Snapshot::new(answer).into())
    }
}

guest_sdk::export!(Restless: Reload);
