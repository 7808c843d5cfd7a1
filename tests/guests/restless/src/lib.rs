//! A plugin that does what its settings say, however bad. The deeds stand in a file for each subject.
//!
//! `tests/tests/sandbox` has the exact outcome of each, and looks that none is without a test. What
//! the SDK cannot express is written as text, beside this folder.

mod deed;
mod egress;
mod files;
mod isolation;
mod log;
mod memory;
mod protocol;
mod time;

use deed::Deed;
use guest_sdk::{Event, Failure, Host, Outcome, RealtimeWatch, Reload, Snapshot};
use std::time::Duration;
use wasip2::clocks::monotonic_clock;

/// What to do, to what, and when.
#[guest_sdk::settings]
pub struct Settings {
    /// What to do.
    pub deed: Deed,
    /// When.
    #[setting(default = "reload")]
    pub when: Moment,
    /// To what.
    #[setting(default = "")]
    pub to: String,
    /// An address that is granted.
    #[setting(connect(tcp = 1, http = 80, https = 443))]
    pub address: Option<String>,
    /// A file that is granted.
    #[setting(read)]
    pub granted: Option<String>,
    /// A secret, to see whether it is ever shown.
    #[setting(secret)]
    pub secret: Option<String>,
    /// What a plugin would like to have, and no operator has written.
    #[setting(default = "${env:PW}")]
    pub wish: String,
}

/// In which call.
#[guest_sdk::settings]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// In `open`.
    Open,
    /// In `reload`.
    Reload,
    /// In `arm`.
    Arm,
    /// In `next`.
    Next,
}

pub struct Restless {
    settings: Settings,
    host: Host,
    /// Calls of this instance so far, `open` left out.
    calls: u32,
}

impl Reload for Restless {
    type Config = Settings;

    fn new(settings: Settings, host: &Host) -> Result<Self, Failure> {
        let mut restless = Self { settings, host: host.clone(), calls: 0 };
        if restless.settings.when == Moment::Open {
            restless.act()?;
        }
        Ok(restless)
    }

    fn reload(&mut self, known: Option<&str>) -> Result<Outcome, Failure> {
        self.calls += 1;
        match self.settings.when {
            Moment::Reload => match self.settings.deed {
                Deed::Unchanged => Ok(Outcome::Unchanged),
                Deed::Removed => Ok(Outcome::Absent),
                Deed::Known => Ok(Snapshot::new(format!("{known:?}")).cursor("seen").into()),
                _ => self.act().map(Into::into),
            },
            Moment::Open | Moment::Arm | Moment::Next => Ok(Snapshot::new("here").into()),
        }
    }
}

impl RealtimeWatch for Restless {
    fn watch(&mut self, _known: Option<&str>) -> Result<(), Failure> {
        self.calls += 1;
        match self.settings.when {
            Moment::Arm => self.act().map(|_| ()),
            Moment::Next => Ok(()),
            Moment::Open | Moment::Reload => Err(Failure::permanent("there is nothing to watch")),
        }
    }

    fn next(&mut self) -> Result<Event, Failure> {
        self.calls += 1;
        if self.settings.when != Moment::Next {
            monotonic_clock::subscribe_duration(Duration::from_secs(20).as_nanos() as u64).block();
            return Ok(Event::Alive);
        }
        match self.settings.deed {
            Deed::Dirty => Ok(Event::Dirty),
            Deed::Alive => Ok(Event::Alive),
            Deed::Removed => Ok(Event::Removed),
            _ => self.act().map(Into::into),
        }
    }
}

impl Restless {
    /// The deed itself; what comes of it is the value.
    fn act(&mut self) -> Result<Snapshot, Failure> {
        use Deed::*;
        let to = self.settings.to.as_str();
        let (host, calls) = (&self.host, self.calls);
        let said: Vec<u8> = match self.settings.deed {
            Connect => egress::connect(host, to, false)?,
            Tls => egress::connect(host, to, true)?,
            Socket => egress::socket(to)?,
            Listen => egress::listen(to)?,
            Datagram => egress::datagram(to)?,
            Lookup => egress::look_up(to),
            Request => egress::request(host, to, &[])?,
            Header => {
                let (url, field) = to.split_once(' ').unwrap_or((to, ""));
                let (name, value) = field.split_once('=').unwrap_or((field, ""));
                egress::request(host, url, &[(name, &value.replace("\\r\\n", "\r\n"))])?
            }
            Upload => egress::upload(to)?,
            Spellings => egress::spellings(host, to)?,
            RequestBombs => egress::request_bombs(),
            HeaderBomb => egress::header_bomb(),
            Beg => egress::beg(host, |_| to.to_owned()),
            BegAround => egress::beg(host, |number| format!("{to}{number}")),
            Sulk => {
                let _ = host.read_file(to);
                time::sleep()
            }

            Spin => time::spin(),
            Sleep => time::sleep(),
            WaitForFile => time::wait_for_file(host, to)?,
            WaitForBytes => time::wait_for_bytes(host, to)?,
            Recurse => time::recurse(),
            BusyWait => time::busy_wait(),
            BusyCalls => time::busy_calls(),
            BusyRead => time::busy_read(host, to)?,
            Nap => time::nap(),

            Grow => memory::grow(),
            Huge => memory::letters(20 << 20),
            Full => memory::full(calls),
            HugeCursor => return Ok(Snapshot::new("x").cursor(memory::text(12 << 20))),
            HugeMediaType => return Ok(Snapshot::new("x").media_type(memory::text(12 << 20))),
            HugeFailure => return Err(Failure::transient(memory::text(6 << 20))),
            HugeRequest => egress::request(host, &format!("{to}{}", memory::text(1 << 20)), &[])?,
            HugePath => host.read_file(&memory::text(6 << 20))?,
            Random => memory::random(1 << 30),
            RandomFlood => memory::random_flood(),
            Headers => memory::headers(),
            Pollables => memory::pollables(),
            Sockets => memory::sockets(),
            Connections => memory::connections(host, to)?,
            Watches => memory::watches(host, to)?,

            Log => log::log(to),
            LogLevels => log::levels(),
            LogFlood => log::flood(),
            LogHuge => log::huge(),
            LogFields => log::fields(),
            Print => log::print(),
            PrintFlood => log::print_flood(),

            Read => host.read_file(to)?,
            Open => std::fs::read(to)?,
            Folder => files::folder(to)?,
            Preopened => files::preopened(),
            Write => files::write(to)?,
            Truncate => files::truncate(to)?,
            Rename => files::rename(to)?,
            Link => files::link(to)?,
            Remove => files::remove(to)?,
            WatchPath => files::watch(host, to)?,

            Unchanged | Removed | Known | Dirty | Alive => b"not now".to_vec(),
            Distinct => protocol::distinct(calls),
            Same => b"the same".to_vec(),
            OddStrings => return Ok(protocol::odd_strings()),
            OddFailure => return Err(Failure::transient(protocol::ODD)),
            ConfigLater => protocol::config_later(calls)?,
            NeverAgain => {
                return Err(Failure::retry_after("not before the sun dies", Duration::MAX));
            }
            Panic => panic!("that was to be expected"),
            PanicHugely => panic!("{}", memory::text(6 << 20)),
            Trap => protocol::trap(),
            TrapLater => protocol::trap_later(calls),
            Exit => std::process::exit(0),

            Environment => isolation::environment(),
            Input => isolation::input(),
            Remember => isolation::remember(),
            Leftovers => isolation::leftovers(),
            Secret => self.settings.secret.clone().unwrap_or_default().into_bytes(),
            TellSecret => {
                return Err(Failure::transient(self.settings.secret.as_deref().unwrap_or("none")));
            }
            TellSecretInLog => {
                guest_sdk::tracing::warn!(
                    secret = self.settings.secret,
                    "it is {:?}",
                    self.settings.secret
                );
                Vec::new()
            }
            TellSecretInPanic => panic!("{:?}", self.settings.secret),
            TellDefault => self.settings.wish.clone().into_bytes(),
        };
        Ok(Snapshot::new(said))
    }
}

guest_sdk::export!(Restless: Reload + RealtimeWatch);
