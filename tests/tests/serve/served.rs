//! Host with the HTTP API, and a client of it.

use e2e::{Running, TestHost};
use serde_json::Value;
use std::time::Duration;
use ureq::{
    Agent, Body,
    http::{Request, Response},
};

/// Creates a token with `host token`. Returns the `Authorization` header and the configuration.
pub(crate) fn token(arguments: &[&str]) -> (String, String) {
    let made = TestHost::new().finish(&[&["token"], arguments].concat());
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    (format!("Bearer {}", made.text().trim()), format!("{}\n", made.stderr))
}

/// Host with the HTTP API, and a client of it.
pub(crate) struct Served {
    pub(crate) host: Running,
    pub(crate) t: TestHost,
    pub(crate) base: String,
    agent: Agent,
}

impl Served {
    /// Starts a host with this configuration and these additional arguments.
    pub(crate) fn start(t: TestHost, config: &str, arguments: &[&str]) -> Self {
        t.write("reloader.toml", config);
        let host = t.run(&[&["run", "--config", "reloader.toml"], arguments].concat());
        host.wait_for_log("API listening url=");
        let log = host.stderr();
        let (_, base) = log.split_once("API listening url=").unwrap();
        let base = base.lines().next().unwrap().trim().to_owned();
        let agent = Agent::config_builder().http_status_as_error(false).build().into();
        Self { host, t, base, agent }
    }

    /// Starts a host on a free loopback port with the source `app` and the additional configuration
    /// `rest`.
    pub(crate) fn app(rest: &str) -> Self {
        let t = TestHost::new();
        t.write("app.in", "one");
        let config = format!("{APP}{rest}");
        let served = Self::start(t, &config, &["--listen", "127.0.0.1:0"]);
        served.wait_for("/readyz", 200);
        served
    }

    pub(crate) fn set_agent(&mut self, agent: Agent) {
        self.agent = agent;
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        self.agent.run(request).unwrap().into()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    pub(crate) fn post(&self, path: &str) -> Answer {
        self.ask("POST", path, &[])
    }

    pub(crate) fn wait_for(&self, path: &str, status: u16) {
        e2e::wait_until(&format!("{status} of {path}"), || self.get(path).status == status);
    }

    /// Sends a GET request and returns the response with its unread body, which may be endless.
    pub(crate) fn open(&self, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.config().timeout_recv_body(Some(Duration::from_secs(30))).build().call().unwrap()
    }
}

/// Configuration of the state store and of the source `app`, which reads `app.in`.
pub(crate) const APP: &str = "[state]\npath = \"state\"\n\
    [[source]]\nname = \"app\"\nplugin = \"file\"\nconfig.path = \"app.in\"\n";

/// Response with its complete body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl From<Response<Body>> for Answer {
    fn from(mut response: Response<Body>) -> Self {
        let text = response.body_mut().read_to_string().unwrap();
        Self { status: response.status().as_u16(), headers: response.headers().clone(), text }
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that the response is a problem document with this status and a detail that contains
    /// `says`.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, says: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{self:?}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{self:?}");
    }
}
