//! Victims: sources whose latency is measured beside an attack.

use crate::support::replace;
use e2e::{Nginx, Redis};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    time::Instant,
};

/// Returns `file` and the bundled source plugins whose server is installed.
pub(crate) fn installed_victims() -> Vec<&'static str> {
    let there =
        [("file", true), ("kvs", Redis::start().is_some()), ("http", Nginx::start().is_some())];
    there.into_iter().filter_map(|(plugin, is_there)| is_there.then_some(plugin)).collect()
}

/// Source whose latency is measured. `change` changes its value and returns the time of the change.
pub(crate) struct Victim {
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) change: Box<dyn Fn(&str) -> Instant>,
}

impl Victim {
    pub(crate) fn new(plugin: &str, path: &Path) -> Self {
        match plugin {
            "kvs" => {
                let redis = Redis::start().unwrap();
                let stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
                stream.set_nodelay(true).unwrap();
                let url = redis.url().trim_start_matches("url=").to_owned();
                let change = move |value: &str| {
                    let _running = &redis;
                    let before = Instant::now();
                    writeln!(&stream, "SET app \"{value}\"\r").unwrap();
                    let mut answer = String::new();
                    BufReader::new(&stream).read_line(&mut answer).unwrap();
                    before
                };
                let settings = vec![("url", url), ("key", "app".into())];
                Self { settings, change: Box::new(change) }
            }
            "http" => {
                let nginx = Nginx::start().unwrap();
                let (url, events) = (nginx.url("/app.txt"), nginx.url("/events"));
                let settings =
                    vec![("url", url), ("watch_url", events), ("watch", "sse".to_owned())];
                let change = move |value: &str| {
                    nginx.put("app.txt", value);
                    let before = Instant::now();
                    nginx.publish("changed");
                    before
                };
                Self { settings, change: Box::new(change) }
            }
            _ => {
                let settings = vec![("path", path.display().to_string())];
                let path = path.to_owned();
                Self { settings, change: Box::new(move |value| replace(&path, value)) }
            }
        }
    }
}
