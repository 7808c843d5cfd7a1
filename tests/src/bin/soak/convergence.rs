//! Comparison of the content of the sinks with the present values of the sources.

use crate::{
    configuration::{CONSUMED, CONSUMER_FILE, GROUP, GROUP_FILE, SIGNALLED_FILE},
    environment::Environment,
    monitor::Monitor,
    sources::{Kind, MoreSink},
    subscriber::Subscriber,
};
use std::fs;

/// Maximum length of a value in a message.
const MAX_SHOWN_CHARS: usize = 60;

/// Returns a description of each sink whose content is not the present value of its source.
pub(crate) fn mismatches(environment: &Environment) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |sink: String, content: Option<String>, expected: &str| {
        if content.as_deref() != Some(expected) {
            let shown = |text: &str| text.chars().take(MAX_SHOWN_CHARS).collect::<String>();
            let content = content.map_or_else(|| "nothing".into(), |content| shown(&content));
            found.push(format!("{sink} contains `{content}` instead of `{}`", shown(expected)));
        }
    };
    let read = |name: &str| fs::read_to_string(environment.t.path(name)).ok();
    let sources = environment.sources();
    for source in sources.iter().filter(|source| source.kind != Kind::HungFile) {
        let expected = source.present().delivered.clone();
        let name = &source.name;
        compare(format!("file sink of `{name}`"), read(&format!("out/{name}")), &expected);
        match source.more {
            MoreSink::None => {}
            MoreSink::Exec => {
                compare(format!("exec sink of `{name}`"), read(&format!("exec/{name}")), &expected);
            }
            MoreSink::Webhook => {
                let webhook = environment.server.webhook(name);
                compare(format!("webhook of `{name}`"), webhook, &expected);
            }
            MoreSink::Signal => {
                let copy = read(SIGNALLED_FILE);
                compare(format!("signalled program of `{name}`"), copy, &expected);
            }
        }
    }
    let values = |names: &[&str]| -> Vec<String> {
        let value = |name: &&str| sources.iter().find(|source| source.name == **name);
        names.iter().filter_map(value).map(|source| source.present().delivered.clone()).collect()
    };
    compare("template sink of the group".into(), read(GROUP_FILE), &values(&GROUP).join("|"));
    compare("`[command]`".into(), read(CONSUMER_FILE), &values(&CONSUMED).concat());
    found
}

/// Returns a description of each source whose last event has another revision than its status.
pub(crate) fn missed_events(
    environment: &Environment,
    monitor: &Monitor,
    subscriber: &Subscriber,
) -> Vec<String> {
    monitor.read_status(environment);
    let sources = environment.sources();
    let missed = sources.iter().filter_map(|source| {
        let (status, event) = (monitor.revision(&source.name), subscriber.revision(&source.name));
        (status != event).then(|| {
            format!("last event of `{}` has revision {event}, its status {status}", source.name)
        })
    });
    missed.collect()
}
