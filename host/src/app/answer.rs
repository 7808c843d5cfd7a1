//! What a running host says, and does, when it is asked on its socket.

use super::{
    Shared,
    control::{Answer, Request, Response},
    unit::Unit,
};
use crate::model::{Revision, SourceName, Value as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::collections::BTreeMap;
use tokio::sync::RwLockReadGuard;

#[async_trait::async_trait]
impl Answer for Shared {
    async fn answer(&self, request: Request) -> Response {
        match self.done(request).await {
            Ok(response) => response,
            Err(message) => Response::Error { message },
        }
    }
}

type Units<'a> = RwLockReadGuard<'a, BTreeMap<SourceName, Unit>>;

impl Shared {
    async fn done(&self, request: Request) -> Result<Response, String> {
        let units = self.units.read().await;
        match request {
            Request::Status => {
                let sources = units.values().map(|unit| unit.status(&self.memory));
                Ok(Response::Status(sources.collect()))
            }
            Request::History { source } => {
                find(&units, &source)?;
                Ok(Response::History(self.memory.history(&SourceName::new(source)).await?))
            }
            Request::Value { source, revision } => {
                let unit = find(&units, &source)?;
                let state = unit.source.subscribe().state();
                let present = state.revision.get();
                let wanted = revision.unwrap_or(present);
                let value = match state.value {
                    Some(value) if wanted == present => value,
                    _ => self.memory.value(&unit.prepared.config.name, wanted.into()).await?,
                };
                Ok(Response::Value {
                    content: STANDARD.encode(&value.content),
                    media_type: value.media_type.map(|media_type| media_type.to_string()),
                    revision: wanted,
                })
            }
            Request::Rollback { source, to } => {
                let unit = find(&units, &source)?;
                self.rollback(unit, to).await
            }
            Request::Resume { source } => {
                let unit = find(&units, &source)?;
                self.memory.unpin(&unit.prepared.config.name);
                unit.source.unpin().await;
                let message = format!("source `{source}` is followed again");
                Ok(Response::Done { message })
            }
            Request::Reload { source } => {
                find(&units, &source)?.source.reload();
                let message = format!("source `{source}` is read now");
                Ok(Response::Done { message })
            }
        }
    }

    async fn rollback(&self, unit: &Unit, to: Option<u64>) -> Result<Response, String> {
        let name = &unit.prepared.config.name;
        let state = unit.source.subscribe().state();
        let present = state.revision;
        let to: Revision = match to {
            Some(to) => to.into(),
            None => self.memory.before(name, present).await?,
        };
        let value = self.memory.value(name, to).await?;
        let is_published = state.value.is_some_and(|present| present.same_value(&value));
        self.memory.pin(name, to, &value, is_published);
        unit.source.pin(value).await;
        let message = format!(
            "source `{name}` has the value of revision {to} again, and keeps it until `host resume {name}`"
        );
        Ok(Response::Done { message })
    }
}

fn find<'a>(units: &'a Units<'_>, name: &str) -> Result<&'a Unit, String> {
    units.get(&SourceName::new(name)).ok_or_else(|| {
        let names: Vec<_> = units.keys().map(|name| format!("`{name}`")).collect();
        format!("there is no source `{name}`; there are {}", names.join(", "))
    })
}
