//! The sources of a sink, seen together.

use super::{OnRemoved, Part, Update};
use reloader_engine::types::SourceName;
use reloader_source::store::{Closed, Subscription};
use std::{future::poll_fn, task::Poll};

/// The sources of a sink.
#[derive(Debug)]
pub(crate) struct Inputs {
    all: Vec<Input>,
    on_removed: OnRemoved,
}

#[derive(Debug)]
struct Input {
    source: SourceName,
    reader: Subscription,
    /// What counts: the newest value, or a removal if that is to be delivered.
    part: Option<Part>,
    open: bool,
}

impl Inputs {
    pub(crate) fn new(readers: Vec<(SourceName, Subscription)>, on_removed: OnRemoved) -> Self {
        let input = |(source, reader)| Input { source, reader, part: None, open: true };
        Self { all: readers.into_iter().map(input).collect(), on_removed }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Looks at all of them; whether there is anything new to deliver.
    pub(crate) fn look(&mut self) -> bool {
        let mut news = false;
        for input in &mut self.all {
            let state = input.reader.state();
            let counts = match &state.value {
                Some(_) => true,
                None => state.revision.get() > 0 && self.on_removed == OnRemoved::Clear,
            };
            if !counts {
                continue;
            }
            news |= input.part.as_ref().is_none_or(|part| part.revision != state.revision);
            input.part = Some(Part {
                source: input.source.clone(),
                revision: state.revision,
                at: state.at,
                stale: state.stale,
                value: state.value,
            });
        }
        news
    }

    /// Waits until one of them has something that was not looked at.
    ///
    /// # Errors
    ///
    /// [`Closed`] when all of them have been stopped.
    pub(crate) async fn changed(&mut self) -> Result<(), Closed> {
        let open = self.all.iter_mut().filter(|input| input.open);
        let mut waiting: Vec<_> = open.map(|input| Box::pin(changed(input))).collect();
        poll_fn(|context| {
            let mut news = false;
            waiting.retain_mut(|one| match one.as_mut().poll(context) {
                Poll::Ready(seen) => {
                    news |= seen;
                    false
                }
                Poll::Pending => true,
            });
            match (news, waiting.is_empty()) {
                (true, _) => Poll::Ready(Ok(())),
                // Those that have been stopped are gone from the list.
                (false, true) => Poll::Ready(Err(Closed)),
                (false, false) => Poll::Pending,
            }
        })
        .await
    }

    /// What is to be delivered, if all of them have something.
    pub(crate) fn update(&self) -> Option<Update> {
        let parts: Option<Vec<Part>> = self.all.iter().map(|input| input.part.clone()).collect();
        parts.map(Update::new)
    }

    /// Those that have nothing yet.
    pub(crate) fn missing(&self) -> Vec<SourceName> {
        let missing = self.all.iter().filter(|input| input.part.is_none());
        missing.map(|input| input.source.clone()).collect()
    }
}

/// Whether there is news; if not, this source has been stopped.
async fn changed(input: &mut Input) -> bool {
    input.open = input.reader.changed().await.is_ok();
    input.open
}
