//! Forwarding of `tracing` events and panics to the host.

use super::bindings::source::reloader::plugin::log;
use std::{fmt, panic, sync::Once};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

static INSTALLED: Once = Once::new();

/// Installs the `tracing` subscriber and the panic hook. Events go to the host's log; a panic reports its
/// message and location to the host before the plugin traps.
pub(super) fn install() {
    INSTALLED.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let message = info.payload_as_str().unwrap_or("a panic without a message");
            let location = info.location().map(ToString::to_string);
            log::panicked(message, location.as_deref());
        }));
        // Fails if the plugin has installed its own subscriber. The plugin's subscriber stays.
        let _ = tracing::subscriber::set_global_default(HostSubscriber { max: max_level() });
    });
}

/// Subscriber that forwards events to the host.
struct HostSubscriber {
    max: LevelFilter,
}

fn max_level() -> LevelFilter {
    match log::max_level() {
        log::Level::Trace => LevelFilter::TRACE,
        log::Level::Debug => LevelFilter::DEBUG,
        log::Level::Info => LevelFilter::INFO,
        log::Level::Warn => LevelFilter::WARN,
        log::Level::Error => LevelFilter::ERROR,
    }
}

impl Subscriber for HostSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.max
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.max)
    }

    fn event(&self, event: &Event<'_>) {
        let mut visitor = FieldVisitor::default();
        event.record(&mut visitor);
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::TRACE => log::Level::Trace,
            Level::DEBUG => log::Level::Debug,
            Level::INFO => log::Level::Info,
            Level::WARN => log::Level::Warn,
            Level::ERROR => log::Level::Error,
        };
        log::event(level, metadata.target(), &visitor.message, &visitor.fields);
    }

    // Spans are not forwarded. The host creates its own span around each call.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Collects the message and the fields of an event.
#[derive(Default)]
struct FieldVisitor {
    message: String,
    fields: Vec<log::Field>,
}

impl FieldVisitor {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push(log::Field { name: name.into(), value }),
        }
    }
}

impl Visit for FieldVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}
