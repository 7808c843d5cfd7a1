//! Plugin that performs one attack in one of its calls. Its settings name the attack and the call.

use crate::{
    attack::Attack,
    egress, files, interface_violations, isolation, log, memory,
    settings::{Call, Settings},
    time,
};
use guest_sdk::{Event, Failure, Host, Outcome, RealtimeWatch, Reload, Snapshot};
use std::time::Duration;
use wasip2::clocks::monotonic_clock;

/// Plugin that performs one attack.
pub struct Attacker {
    settings: Settings,
    host: Host,
    /// Number of calls of this instance, not counting `open`.
    calls: u32,
}

impl Reload for Attacker {
    type Config = Settings;

    fn new(settings: Settings, host: &Host) -> Result<Self, Failure> {
        let mut attacker = Self { settings, host: host.clone(), calls: 0 };
        if attacker.settings.when == Call::Open {
            attacker.perform()?;
        }
        Ok(attacker)
    }

    fn reload(&mut self, known: Option<&str>) -> Result<Outcome, Failure> {
        self.calls += 1;
        match self.settings.when {
            Call::Reload => match self.settings.attack {
                Attack::Unchanged => Ok(Outcome::Unchanged),
                Attack::Removed => Ok(Outcome::Absent),
                Attack::EchoCursor => Ok(Snapshot::new(format!("{known:?}")).cursor("seen").into()),
                _ => self.perform().map(Into::into),
            },
            Call::Open | Call::Arm | Call::Next => Ok(Snapshot::new("here").into()),
        }
    }
}

impl RealtimeWatch for Attacker {
    fn watch(&mut self, _known: Option<&str>) -> Result<(), Failure> {
        self.calls += 1;
        match self.settings.when {
            Call::Arm => self.perform().map(|_| ()),
            Call::Next => Ok(()),
            Call::Open | Call::Reload => Err(Failure::permanent("there is nothing to watch")),
        }
    }

    fn next(&mut self) -> Result<Event, Failure> {
        self.calls += 1;
        if self.settings.when != Call::Next {
            monotonic_clock::subscribe_duration(Duration::from_secs(20).as_nanos() as u64).block();
            return Ok(Event::Alive);
        }
        match self.settings.attack {
            Attack::Dirty => Ok(Event::Dirty),
            Attack::Alive => Ok(Event::Alive),
            Attack::Removed => Ok(Event::Removed),
            _ => self.perform().map(Into::into),
        }
    }
}

impl Attacker {
    /// Performs the attack and returns its result as the value.
    fn perform(&mut self) -> Result<Snapshot, Failure> {
        use Attack::*;
        let to = self.settings.to.as_str();
        let (host, calls) = (&self.host, self.calls);
        let content: Vec<u8> = match self.settings.attack {
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
            EndlessUpload => egress::upload(to)?,
            Spellings => egress::spellings(host, to)?,
            OversizedRequestParts => egress::oversized_request_parts(),
            OversizedHeader => egress::oversized_header(),
            RepeatedDenial => egress::read_denied_files(host, |_| to.to_owned()),
            DistinctDenials => egress::read_denied_files(host, |number| format!("{to}{number}")),
            DenialThenSilence => {
                let _ = host.read_file(to);
                time::sleep()
            }

            InfiniteLoop => time::infinite_loop(),
            Sleep => time::sleep(),
            WaitForFile => time::wait_for_file(host, to)?,
            WaitForBytes => time::wait_for_bytes(host, to)?,
            InfiniteRecursion => time::infinite_recursion(),
            BusyWait => time::busy_wait(),
            BusyCalls => time::busy_calls(),
            BusyRead => time::busy_read(host, to)?,
            ComputeAndSleep => time::compute_and_sleep(),

            MemoryGrowth => memory::memory_growth(),
            OversizedValue => memory::letters(20 << 20),
            MaxSizeValues => memory::max_size_value(calls),
            OversizedCursor => return Ok(Snapshot::new("x").cursor(memory::text(12 << 20))),
            OversizedMediaType => return Ok(Snapshot::new("x").media_type(memory::text(12 << 20))),
            OversizedFailure => return Err(Failure::transient(memory::text(6 << 20))),
            OversizedUrl => egress::request(host, &format!("{to}{}", memory::text(1 << 20)), &[])?,
            OversizedPath => host.read_file(&memory::text(6 << 20))?,
            OversizedRandom => memory::random(1 << 30),
            RandomFlood => memory::random_flood(),
            HeaderFlood => memory::header_flood(),
            PollableExhaustion => memory::pollable_exhaustion(),
            SocketExhaustion => memory::socket_exhaustion(),
            ConnectionExhaustion => memory::connection_exhaustion(host, to)?,
            WatchExhaustion => memory::watch_exhaustion(host, to)?,

            Log => log::log(to),
            LogLevels => log::levels(),
            LogFlood => log::flood(),
            LogOversized => log::oversized(),
            LogManyFields => log::many_fields(),
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

            Unchanged | Removed | EchoCursor | Dirty | Alive => b"not applicable".to_vec(),
            DistinctValues => interface_violations::distinct(calls),
            SameValue => b"the same".to_vec(),
            ControlCharacters => return Ok(interface_violations::control_characters()),
            ControlCharactersInFailure => {
                return Err(Failure::transient(interface_violations::CONTROL_CHARACTERS));
            }
            LateConfigFailure => interface_violations::late_config_failure(calls)?,
            MaxRetryDelay => {
                return Err(Failure::retry_after("retry after the maximum delay", Duration::MAX));
            }
            Panic => panic!("deliberate panic"),
            OversizedPanic => panic!("{}", memory::text(6 << 20)),
            Trap => interface_violations::trap(),
            TrapEverySecondCall => interface_violations::trap_every_second_call(calls),
            Exit => std::process::exit(0),

            Environment => isolation::environment(),
            Input => isolation::input(),
            StateAcrossCalls => isolation::state_across_calls(),
            UninitializedMemory => isolation::uninitialized_memory(),
            Secret => self.settings.secret.clone().unwrap_or_default().into_bytes(),
            SecretInFailure => {
                return Err(Failure::transient(self.settings.secret.as_deref().unwrap_or("none")));
            }
            SecretInLog => {
                guest_sdk::tracing::warn!(
                    secret = self.settings.secret,
                    "it is {:?}",
                    self.settings.secret
                );
                Vec::new()
            }
            SecretInPanic => panic!("{:?}", self.settings.secret),
            EchoDefault => self.settings.wish.clone().into_bytes(),
        };
        Ok(Snapshot::new(content))
    }
}
