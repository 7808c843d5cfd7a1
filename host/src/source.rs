//! A source that is kept up to date: the way to embed one.

use crate::{
    driver::{Command, Driver},
    engine::Settings,
    model::{Failure, SourceName},
    origin::Origin,
    store::{Reader, store},
};
use std::sync::Arc;
use tokio::{sync::mpsc, task::JoinHandle};

/// A source that is kept up to date, until this is dropped.
#[derive(Debug)]
pub struct Source {
    name: SourceName,
    reader: Reader,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<Result<(), Failure>>,
}

impl Source {
    /// Starts to keep a source up to date, on the present tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(name: SourceName, origin: Arc<dyn Origin>, settings: Settings) -> Self {
        let (writer, reader) = store();
        let (commands, receiver) = mpsc::channel(1);
        let driver = Driver::new(name.clone(), origin, settings, writer);
        let task = tokio::spawn(driver.run(receiver));
        Self { name, reader, commands, task }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// One more reader of its values. The first [`changed`](Reader::changed) of each reader returns as
    /// soon as there is a value.
    #[must_use]
    pub fn subscribe(&self) -> Reader {
        self.reader.clone()
    }

    /// Asks for the source to be read now. Returns at once; what is new reaches the readers.
    pub fn reload(&self) {
        // When one such wish is waiting already, it serves for both.
        let _ = self.commands.try_send(Command::Reload);
    }

    /// Waits until the source stops by itself.
    ///
    /// # Errors
    ///
    /// The failure that says that the settings can never work. Nothing else stops a source.
    pub async fn stopped(&mut self) -> Result<(), Failure> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) => Err(Failure::transient(format!("the source's task ended: {error}"))),
        }
    }

    /// Stops it, and waits until it has let go of everything.
    pub async fn stop(self) {
        if !self.task.is_finished() {
            self.task.abort();
            let _ = self.task.await;
        }
    }
}
