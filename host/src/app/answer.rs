//! What a running host says, and does, when it is asked on its socket.

use super::{
    control::{Answer, Request, Response, SourceStatus},
    machine::Machine,
    news::AGAIN,
    unit::Unit,
};
use crate::model::{Revision, SourceName, Value as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::sync::Arc;

#[async_trait::async_trait]
impl Answer for Machine {
    async fn answer(&self, request: Request) -> Response {
        match self.done(request).await {
            Ok(response) => response,
            Err(message) => Response::Error { message },
        }
    }
}

impl Machine {
    /// How all sources are, by their names.
    pub(super) fn status(&self) -> Vec<SourceStatus> {
        self.units().iter().map(|unit| unit.status(&self.memory)).collect()
    }

    async fn done(&self, request: Request) -> Result<Response, String> {
        match request {
            Request::Status => Ok(Response::Status(self.status())),
            Request::History { source } => {
                self.find(&source)?;
                Ok(Response::History(self.memory.history(&SourceName::new(source)).await?))
            }
            Request::Refused { source } => {
                self.find(&source)?;
                Ok(Response::Refused(self.memory.refused(&SourceName::new(source)).await?))
            }
            Request::Value { source, revision } => {
                let unit = self.find(&source)?;
                let state = unit.source.subscribe().state();
                let present = state.revision.get();
                let wanted = revision.unwrap_or(present);
                let value = match state.value {
                    Some(value) if wanted == present => value,
                    _ => self.memory.value(unit.source.name(), wanted.into()).await?,
                };
                Ok(Response::Value {
                    content: STANDARD.encode(&value.content),
                    media_type: value.media_type.map(|media_type| media_type.to_string()),
                    revision: wanted,
                })
            }
            Request::Rollback { source, to } => {
                let unit = self.find(&source)?;
                self.rollback(&unit, to).await
            }
            Request::Resume { source } => {
                let unit = self.find(&source)?;
                if self.memory.pinned(unit.source.name()).is_none() {
                    let message =
                        format!("source `{source}` is not pinned: it is followed already");
                    return Ok(Response::Done { message });
                }
                self.memory.unpin(unit.source.name());
                unit.source.unpin().await;
                let message = format!("source `{source}` is followed again");
                Ok(Response::Done { message })
            }
            Request::Reload { source } => {
                let unit = self.find(&source)?;
                if let Some(end) = unit.end() {
                    return Err(format!("{end}; it is read again when its configuration changes"));
                }
                unit.source.reload();
                let message = match unit.reverted() {
                    None => format!("source `{source}` is read now"),
                    Some(why) => format!(
                        "source `{source}` is read now as it was: what is new in the configuration \
                         cannot be used yet, and is tried again every {}: {why}",
                        humantime::format_duration(AGAIN)
                    ),
                };
                Ok(Response::Done { message })
            }
        }
    }

    async fn rollback(&self, unit: &Unit, to: Option<u64>) -> Result<Response, String> {
        let name = unit.source.name();
        let state = unit.source.subscribe().state();
        let present = state.revision;
        let to: Revision = match to {
            Some(to) => to.into(),
            None => self.memory.before(name, present).await?,
        };
        let value = self.memory.value(name, to).await?;
        if let Some(end) = unit.end() {
            return Err(format!("nothing is published any more: {end}"));
        }
        let is_published = state.value.is_some_and(|present| present.same_value(&value));
        self.memory.pin(name, to, &value, is_published);
        let mut reader = unit.source.subscribe();
        unit.source.pin(value.clone()).await;
        // It is published as soon as no crash forgets it.
        while !reader.state().value.is_some_and(|present| present.same_value(&value)) {
            if reader.changed().await.is_err() {
                return Err(format!("source `{name}` has ended meanwhile"));
            }
        }
        let message = format!(
            "source `{name}` has the value of revision {to} again, and keeps it until `host resume {name}`"
        );
        Ok(Response::Done { message })
    }

    fn find(&self, name: &str) -> Result<Arc<Unit>, String> {
        self.unit(&SourceName::new(name)).ok_or_else(|| {
            let units = self.units();
            let names: Vec<_> =
                units.iter().map(|unit| format!("`{}`", unit.source.name())).collect();
            format!("there is no source `{name}`; there are {}", names.join(", "))
        })
    }
}
