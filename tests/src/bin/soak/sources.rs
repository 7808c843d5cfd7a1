//! Sources of the soak test: where each value is stored, how it changes, and what its sinks must contain.

use crate::{random::Rng, value_server::ValueServer};
use e2e::{Redis, TestHost};
use std::{
    fs,
    os::unix::fs::symlink,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Source whose changes prove that the host still works. The random load does not change it.
pub(crate) const PROBE: &str = "probe";

/// Plugin and storage of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// File, changed by a rename, in place, or by a removal and a new file.
    File,
    /// File behind a symbolic link that is swapped.
    SymlinkedFile,
    /// File that is read by a plugin whose component file is replaced during the test.
    ReplacedPlugin,
    /// File with a JSON Schema for its values. A third of the values do not match the schema.
    Validated,
    /// Key of the Redis server.
    Key,
    /// URL that is polled.
    PolledUrl,
    /// URL with an event stream.
    StreamedUrl,
    /// URL with long polls.
    LongPolledUrl,
    /// File on a mount that never answers. Its value is unknown.
    HungFile,
}

/// Sink of a source in addition to its file sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MoreSink {
    None,
    Exec,
    Webhook,
    Signal,
}

pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) more: MoreSink,
    present: Mutex<Present>,
}

/// Present value of a source.
pub(crate) struct Present {
    /// Path of the file, for kinds that have one.
    pub(crate) path: String,
    /// Value that the sinks must contain: the last valid one.
    pub(crate) delivered: String,
    /// Number of changes so far.
    number: u64,
    /// `true` if the present value does not match the schema.
    invalid: bool,
}

impl Source {
    pub(crate) fn new(name: &str, kind: Kind, more: MoreSink) -> Self {
        let folder = if kind == Kind::HungFile { "hung" } else { "in" };
        let present = Present {
            path: format!("{folder}/{name}"),
            delivered: String::new(),
            number: 0,
            invalid: false,
        };
        Self { name: name.into(), kind, more, present: Mutex::new(present) }
    }

    pub(crate) fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File | Kind::ReplacedPlugin)
    }
}

/// Servers and directories in which the values are stored.
pub(crate) struct Stores<'a> {
    pub(crate) t: &'a TestHost,
    pub(crate) redis: Option<&'a Mutex<Redis>>,
    pub(crate) server: &'a ValueServer,
}

impl Stores<'_> {
    /// Gives a source a new value. Returns `false` if its server is not available.
    pub(crate) fn change(&self, source: &Source, rng: &mut Rng) -> bool {
        let mut present = source.present();
        let number = present.number + 1;
        let invalid = source.kind == Kind::Validated && rng.below(3) == 0;
        let value = if source.kind == Kind::Validated {
            let number = if invalid { "\"none\"".into() } else { number.to_string() };
            format!("{{ \"number\": {number} }}")
        } else {
            let padding = if number.is_multiple_of(50) { 65_536 } else { number as usize % 200 };
            format!("{} {number} {}", source.name, "x".repeat(padding))
        };
        match source.kind {
            Kind::File | Kind::ReplacedPlugin => self.change_file(&present.path, &value, rng),
            Kind::Validated => self.t.replace(&present.path, &value),
            Kind::SymlinkedFile => {
                let data = format!("{}.{}", source.name, number % 2);
                self.t.write(&format!("in/{data}"), &value);
                let new = self.t.path(&format!("{}.link", present.path));
                symlink(data, &new).expect("the directory is writable");
                fs::rename(new, self.t.path(&present.path)).expect("the directory is writable");
            }
            Kind::Key => {
                // A fault that stops or kills the Redis server holds the lock.
                let Some(redis) = self.redis.and_then(|redis| redis.try_lock().ok()) else {
                    return false;
                };
                redis.set(&source.name, &value);
            }
            Kind::PolledUrl | Kind::StreamedUrl | Kind::LongPolledUrl => {
                self.server.set(&source.name, &value);
            }
            Kind::HungFile => return false,
        }
        (present.number, present.invalid) = (number, invalid);
        if !invalid {
            present.delivered = value;
        }
        true
    }

    fn change_file(&self, path: &str, value: &str, rng: &mut Rng) {
        match rng.below(20) {
            0 => {
                fs::remove_file(self.t.path(path)).expect("the file exists");
                thread::sleep(rng.duration(Duration::ZERO, Duration::from_millis(300)));
                self.t.write(path, value);
            }
            1..8 => self.t.write(path, value),
            _ => self.t.replace(path, value),
        }
    }

    /// Replaces the file of a source by a new value.
    pub(crate) fn replace_file(&self, source: &Source) -> String {
        self.replace_file_padded(source, 0)
    }

    /// Like [`replace_file`](Self::replace_file), with a value that is longer by `padding` bytes.
    pub(crate) fn replace_file_padded(&self, source: &Source, padding: usize) -> String {
        let mut present = source.present();
        present.number += 1;
        let value = format!("{} {}{}", source.name, present.number, "x".repeat(padding));
        self.t.replace(&present.path, &value);
        present.delivered.clone_from(&value);
        value
    }

    /// Lets a source read another file with a new value. The change takes effect when the configuration is written.
    /// Returns the path of the previous file.
    pub(crate) fn move_file(&self, source: &Source) -> String {
        let mut present = source.present();
        present.number += 1;
        let value = format!("{} {}", source.name, present.number);
        let path = format!("in/{}.{}", source.name, present.number);
        self.t.write(&path, &value);
        present.delivered = value;
        std::mem::replace(&mut present.path, path)
    }

    /// Sets all keys to their present values, after a restart of the server.
    pub(crate) fn restore_keys(&self, redis: &Redis, sources: &[Arc<Source>]) {
        for source in sources.iter().filter(|source| source.kind == Kind::Key) {
            redis.set(&source.name, &source.present().delivered);
        }
    }

    /// Replaces each invalid value by a valid one. Otherwise the expected content of the sinks is unknown: the host may
    /// not have read the last valid value before the invalid one replaced it.
    pub(crate) fn make_valid(&self, sources: &[Arc<Source>], rng: &mut Rng) {
        for source in sources.iter().filter(|source| source.kind == Kind::Validated) {
            while source.present().invalid {
                self.change(source, rng);
            }
        }
    }
}
