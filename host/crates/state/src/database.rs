//! The database: how it is opened, and whether what is found there can be used.

use crate::{
    error::{Fault, OpenError},
    records,
    state_dir::{Directory, SetAside},
};
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable as _,
    StorageError, WriteTransaction, backends::FileBackend,
};
use reloader_util::panics;
use std::{
    any::Any,
    fs::File,
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What the database keeps in memory, in bytes. The system keeps its pages as well.
const CACHE: usize = 8 << 20;
/// Each page of a database up to this size is checked when it is opened, in bytes: it takes a tenth of a
/// second. One that is larger is checked only after a crash, and what is read of it.
const CHECKED: u64 = 256 << 20;
/// A file that is smaller is not worth compacting, in bytes …
const COMPACTED: u64 = 4 << 20;
/// … nor one that is less than so many times as large as what is in it: values take up to twice their
/// size, and the next one is written beside the last.
const SLACK: u64 = 4;

/// A database that can be used.
#[derive(Debug)]
pub(crate) struct Book {
    database: Database,
}

/// Why one cannot be used.
enum Trouble {
    /// What is in it makes no sense: it is set aside.
    Broken(String),
    /// The system refused something.
    Io(std::io::Error),
}

impl Book {
    /// Opens the database, or makes one. One that cannot be used is set aside.
    pub(crate) fn open(directory: &Directory) -> Result<(Self, Option<SetAside>), OpenError> {
        let Some(file) = directory.open_database()? else {
            return Ok((Self::make(directory)?, None));
        };
        let path = directory.database();
        let length = file
            .metadata()
            .map_err(|error| OpenError::Io { path: path.clone(), doing: "looking at it", error })?
            .len();
        match unpanicked(|| load(file, length)) {
            Ok(book) => Ok((book, None)),
            Err(Trouble::Broken(reason)) => {
                let aside = directory.set_aside(reason)?;
                tracing::warn!("{aside}");
                Ok((Self::make(directory)?, Some(aside)))
            }
            Err(Trouble::Io(error)) => Err(OpenError::Io { path, doing: "reading it", error }),
        }
    }

    fn make(directory: &Directory) -> Result<Self, OpenError> {
        let file = directory.unborn()?;
        let made = unpanicked(|| {
            let book = Self { database: database(file, false)? };
            book.write(|transaction| {
                transaction.open_table(records::META)?.insert("format", records::FORMAT)?;
                transaction.open_table(records::SOURCES)?;
                transaction.open_table(records::HISTORY)?;
                transaction.open_table(records::CONTENTS)?;
                transaction.open_table(records::DELIVERED)?;
                transaction.open_table(records::REFUSED)?;
                transaction.open_table(records::REFUSED_CONTENTS)?;
                Ok(())
            })?;
            Ok(book)
        });
        let book = made.map_err(|trouble| OpenError::Io {
            path: directory.database(),
            doing: "beginning it",
            error: match trouble {
                Trouble::Io(error) => error,
                Trouble::Broken(reason) => std::io::Error::other(reason),
            },
        })?;
        directory.born()?;
        Ok(book)
    }

    /// Does something in one transaction, which is on disk when this returns. Whatever goes wrong, a panic
    /// as well, nothing of it is.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        unpanicked(|| {
            let transaction = self.database.begin_write()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }

    /// Looks at what was so when this began. It waits for no writer, and no writer for it.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        unpanicked(|| work(&self.database.begin_read()?))
    }
}

fn database(file: File, checked: bool) -> Result<Database, Trouble> {
    let backend = FileBackend::new(file).map_err(trouble)?;
    Builder::new()
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(checked)
        .create_with_backend(backend)
        .map_err(trouble)
}

fn load(file: File, length: u64) -> Result<Book, Trouble> {
    if length == 0 {
        return Err(Trouble::Broken("the file is empty".into()));
    }
    let mut book = Book { database: database(file, length <= CHECKED)? };
    book.read(check)?;
    if length >= COMPACTED {
        book.compact(length)?;
    }
    Ok(book)
}

/// Whether it is of this format, and what it says of its sources can be understood.
fn check(transaction: &ReadTransaction) -> Result<(), Fault> {
    let format = transaction.open_table(records::META)?.get("format")?.map(|format| format.value());
    match format {
        Some(records::FORMAT) => {}
        Some(other) => {
            let message = format!("its format is {other}, and this host knows {}", records::FORMAT);
            return Err(Fault::Damaged(message));
        }
        None => return Err(Fault::Damaged("it does not say what its format is".into())),
    }
    let history = transaction.open_table(records::HISTORY)?;
    transaction.open_table(records::CONTENTS)?;
    transaction.open_table(records::DELIVERED)?;
    transaction.open_table(records::REFUSED)?;
    transaction.open_table(records::REFUSED_CONTENTS)?;
    for source in transaction.open_table(records::SOURCES)?.iter()? {
        let (name, record) = source?;
        let name = format!("source `{}`", name.value());
        records::decode::<records::Source>(&name, record.value())?;
    }
    for happened in history.iter()? {
        let (key, record) = happened?;
        let (name, revision) = key.value();
        let what = format!("revision {revision} of source `{name}`");
        records::decode::<records::Happened>(&what, record.value())?;
    }
    Ok(())
}

impl Book {
    /// Gives back what is not used any more, if it is much.
    fn compact(&mut self, length: u64) -> Result<(), Trouble> {
        let transaction = self.database.begin_write().map_err(Fault::from)?;
        let stats = transaction.stats().map_err(Fault::from)?;
        transaction.abort().map_err(Fault::from)?;
        let used = stats.stored_bytes() + stats.metadata_bytes();
        if length / SLACK < used {
            return Ok(());
        }
        match self.database.compact() {
            Ok(_) => {}
            // It can be used as it is.
            Err(error) => tracing::debug!("the state was not compacted: {error}"),
        }
        Ok(())
    }
}

/// The database checks what it reads, but not all: some mistakes in a file make it panic.
fn unpanicked<T, E: From<Panicked>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Panicked(panic).into()))
}

struct Panicked(Box<dyn Any + Send>);

impl Panicked {
    fn reason(&self) -> String {
        format!("the database cannot read it: {}", panics::message(&*self.0))
    }
}

impl From<Panicked> for Trouble {
    fn from(panicked: Panicked) -> Self {
        Self::Broken(panicked.reason())
    }
}

impl From<Panicked> for Fault {
    fn from(panicked: Panicked) -> Self {
        Self::Damaged(panicked.reason())
    }
}

fn trouble(error: DatabaseError) -> Trouble {
    match error {
        DatabaseError::Storage(StorageError::Io(error)) => io(error),
        DatabaseError::DatabaseAlreadyOpen => {
            Trouble::Io(std::io::Error::other("another program has it open"))
        }
        error => Trouble::Broken(error.to_string()),
    }
}

/// A file that is no database is told like one that cannot be read.
fn io(error: std::io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Trouble::Broken(error.to_string()),
        _ => Trouble::Io(error),
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Database(error) => match *error {
                redb::Error::Io(error) => io(error),
                error => Self::Broken(error.to_string()),
            },
            Fault::Damaged(reason) => Self::Broken(reason),
        }
    }
}
