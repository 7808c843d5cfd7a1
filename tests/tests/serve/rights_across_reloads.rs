//! Access rights under configuration reloads: the test reloads random configurations and compares
//! the access of each caller with a model.

use crate::{
    raw_client::{Client, Request},
    served::token,
};
use e2e::{Authority, WAIT_TIMEOUT, plugin_cache};
use reloader_host::{
    PluginHost,
    app::{App, Config, ControlRequest, Handle, ListenAddress, prepare},
    plugin::Cache,
    server::Server,
};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Number of reloads for each socket. The environment variable `RELOADS` overrides it.
const RELOADS: usize = 60;

/// Random number generator (SplitMix64) with a seed, so that a failure can be reproduced.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) as usize % bound
    }

    fn choose<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Address {
    None,
    Loopback,
    Wildcard,
    Unix,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    Off,
    ServerOnly,
    /// Requires client certificates of authority 0 or 1.
    Clients(usize),
}

/// Randomly generated `[listen]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listen {
    address: Address,
    /// Whether the tokens `reader`, `admin` and `limited` (scope `admin`, only source `b`) are configured.
    tokens: [bool; 3],
    tls: Tls,
    clients_are_admins: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Anonymous,
    /// Request without credentials and with another `Host` header, as in a DNS rebinding attack.
    OtherName,
    /// Token with this index; token 3 is not configured.
    Token(usize),
    /// Client certificate issued by the authority with this index.
    Certificate(usize),
}

const CALLERS: [Caller; 8] = [
    Caller::Anonymous,
    Caller::OtherName,
    Caller::Token(0),
    Caller::Token(1),
    Caller::Token(2),
    Caller::Token(3),
    Caller::Certificate(0),
    Caller::Certificate(1),
];

const ACTIONS: [(&str, &str); 3] = [
    ("GET", "/v1/sources/app/value"),
    ("POST", "/v1/sources/app/reload"),
    ("GET", "/v1/sources/b/value"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Status(u16),
    /// 401, or a connection that is refused or closed.
    Denied,
}

impl Listen {
    fn random(rng: &mut Rng) -> Self {
        let all = [Address::None, Address::Loopback, Address::Wildcard, Address::Unix];
        let tokens = [0; 3].map(|_: u8| rng.below(2) == 0);
        Self {
            address: rng.choose(&all),
            // Configurations without tokens are frequent, because they are the critical case.
            tokens: if rng.below(3) == 0 { [false; 3] } else { tokens },
            tls: rng.choose(&[Tls::Off, Tls::ServerOnly, Tls::Clients(0), Tls::Clients(1)]),
            clients_are_admins: rng.below(2) == 0,
        }
    }

    fn has_tokens(&self) -> bool {
        self.tokens.contains(&true)
    }

    fn accepts_clients(&self) -> bool {
        matches!(self.tls, Tls::Clients(_))
    }

    /// Returns whether the table is valid.
    fn is_valid(&self) -> bool {
        match self.address {
            Address::Wildcard => self.has_tokens() || self.accepts_clients(),
            Address::Unix => self.tls == Tls::Off,
            Address::None | Address::Loopback => true,
        }
    }

    /// Returns whether a host that was started with `self` accepts a reload to `new`.
    fn allows(&self, new: &Self) -> bool {
        let has_credentials = new.has_tokens() || self.tls != Tls::Off && new.accepts_clients();
        new.is_valid() && (self.address != Address::Wildcard || has_credentials)
    }

    /// Returns the expected result for `caller` on the socket of `self` with the current
    /// configuration `now`.
    fn expects(&self, now: &Self, caller: Caller, action: usize) -> Expected {
        let is_network = self.address != Address::Unix;
        let demands =
            self.address == Address::Wildcard || now.has_tokens() || now.accepts_clients();
        let trusts = |authority| self.tls != Tls::Off && now.tls == Tls::Clients(authority);
        let (admin, only_b) = match caller {
            Caller::Token(token) => match now.tokens.get(token) {
                Some(true) => (token > 0, token == 2),
                _ => return Expected::Denied,
            },
            Caller::Certificate(authority) if trusts(authority) => (now.clients_are_admins, false),
            _ if is_network && demands => return Expected::Denied,
            Caller::OtherName if is_network => return Expected::Status(421),
            _ => (true, false),
        };
        let is_of_app = ACTIONS[action].1.contains("/app/");
        let changes = ACTIONS[action].0 == "POST";
        Expected::Status(if only_b && is_of_app || changes && !admin { 403 } else { 200 })
    }

    fn text(&self, number: usize, tokens: &[String]) -> String {
        // Empty lines, so that errors of different rejected configurations have different line numbers.
        let mut text = "\n".repeat(number + 1);
        for source in ["app", "b"] {
            let _ = write!(text, "[[source]]\nname = \"{source}\"\nplugin = \"file\"\n");
            let _ = writeln!(text, "config.path = \"{source}.in\"");
        }
        let _ =
            write!(text, "[state]\nenabled = false\n[listen]\nconnections = {}\n", 100 + number);
        text += match self.address {
            Address::None => "",
            Address::Loopback => "address = \"127.0.0.1:0\"\n",
            Address::Wildcard => "address = \"0.0.0.0:0\"\n",
            Address::Unix => "address = \"unix:api.sock\"\n",
        };
        if self.tls != Tls::Off {
            text += "[listen.tls]\ncert = \"server.pem\"\nkey = \"server.key\"\n";
        }
        if let Tls::Clients(authority) = self.tls {
            let scope = if self.clients_are_admins { "admin" } else { "read" };
            let _ = write!(text, "client-ca = \"{authority}.pem\"\nclient-scope = \"{scope}\"\n");
        }
        for (is_there, token) in self.tokens.iter().zip(tokens) {
            if *is_there {
                text += token;
            }
        }
        text
    }
}

/// Host in this process, and its clients.
struct Fixture {
    directory: PathBuf,
    handle: Handle,
    requests: mpsc::Sender<ControlRequest>,
    started_with: Listen,
    clients: Vec<(Caller, Client)>,
    bearer: Vec<String>,
    tokens: Vec<String>,
}

impl Fixture {
    /// Reloads the configuration and returns whether it was accepted.
    fn reload(&self, number: usize, listen: &Listen) -> bool {
        let before = self.handle.config_error();
        let path = self.directory.join("reloader.toml");
        fs::write(
            path.with_extension("new"),
            absolute(&self.directory, &listen.text(number, &self.tokens)),
        )
        .unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        self.requests.blocking_send(ControlRequest::Reload).unwrap();
        let start = Instant::now();
        loop {
            if self.handle.config().listen.connections as usize == 100 + number {
                return true;
            }
            let now = self.handle.config_error();
            if now.is_some() && now != before {
                return false;
            }
            assert!(start.elapsed() < WAIT_TIMEOUT, "{listen:?} was not read");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn check(&mut self, now: &Listen, history: &[Listen]) {
        let Self { started_with, clients, bearer, .. } = self;
        for (caller, client) in clients {
            for (action, (method, path)) in ACTIONS.into_iter().enumerate() {
                let host = if *caller == Caller::OtherName { "evil.example" } else { "localhost" };
                let authorization = match caller {
                    Caller::Token(token) => Some(bearer[*token].as_str()),
                    _ => None,
                };
                let request = Request { method, path, host, authorization, if_none_match: None };
                let expected = started_with.expects(now, *caller, action);
                for is_kept in [true, false] {
                    let start = Instant::now();
                    loop {
                        let got = if is_kept {
                            client.ask_on_kept_connection(&request)
                        } else {
                            client.ask(&request)
                        };
                        let is_as_expected = match expected {
                            Expected::Status(status) => got == Ok(status),
                            Expected::Denied => matches!(got, Ok(401) | Err(_)),
                        };
                        if is_as_expected {
                            break;
                        }
                        // The host accepts newly trusted certificates only after it has read the
                        // files. Until then, the request is repeated.
                        let may_become = matches!(caller, Caller::Certificate(_))
                            && expected != Expected::Denied
                            && start.elapsed() < WAIT_TIMEOUT;
                        assert!(
                            may_become,
                            "{caller:?}, {method} {path}, kept: {is_kept}: {got:?} instead of \
                             {expected:?}\nstarted with {started_with:?}\nin use {now:?}\n\
                             reloads {history:?}"
                        );
                        // Connect again: an open connection has no client certificate if its
                        // handshake did not request one.
                        client.close();
                    }
                }
            }
        }
    }
}

/// Makes paths absolute, because relative paths refer to the directory of the process, which all
/// tests share.
fn absolute(directory: &Path, text: &str) -> String {
    let mut text = text.replace("unix:", &format!("unix:{}/", directory.display()));
    for name in ["app.in", "b.in", "server.pem", "server.key", "0.pem", "1.pem"] {
        text = text.replace(&format!("\"{name}\""), &format!("\"{}/{name}\"", directory.display()));
    }
    text
}

fn reload_at_random(started_with: Listen, seed: u64) {
    let reloads = std::env::var("RELOADS").ok().and_then(|text| text.parse().ok());
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().to_path_buf();
    let servers = Authority::new("servers");
    let authorities = [Authority::new("zero"), Authority::new("one")];
    let identity = servers.server(&["localhost"]);
    for (name, content) in [
        ("app.in", "one"),
        ("b.in", "one"),
        ("server.pem", &identity.certificate),
        ("server.key", &identity.key),
        ("0.pem", &authorities[0].pem()),
        ("1.pem", &authorities[1].pem()),
    ] {
        fs::write(directory.join(name), content).unwrap();
    }
    let (bearer, tokens): (Vec<_>, Vec<_>) = [
        token(&["reader"]),
        token(&["admin", "--scope", "admin"]),
        token(&["limited", "--scope", "admin", "--source", "b"]),
        token(&["removed", "--scope", "admin"]),
    ]
    .into_iter()
    .unzip();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (requests, received) = mpsc::channel(4);
    let path = directory.join("reloader.toml");
    fs::write(&path, absolute(&directory, &started_with.text(0, &tokens))).unwrap();
    let (handle, server, app) = runtime.block_on(async {
        let cache = Cache::at(plugin_cache());
        let plugins = PluginHost::builder().cache(cache).build().unwrap();
        let config = Config::read(&path).unwrap();
        let prepared = prepare(&plugins, &config).await.unwrap();
        let app = App::start(plugins, config, prepared).await.unwrap();
        let handle = app.handle();
        let server = Server::start(handle.clone()).await.unwrap();
        (handle, server, tokio::spawn(app.run(received)))
    });
    let start = Instant::now();
    while !handle.missing().is_empty() {
        assert!(start.elapsed() < WAIT_TIMEOUT, "{:?}", handle.missing());
        thread::sleep(Duration::from_millis(1));
    }

    let client = |caller: &Caller| match (server.address().unwrap(), started_with.tls) {
        (ListenAddress::Unix(path), _) => Client::unix(path),
        (ListenAddress::Tcp(address), Tls::Off) => Client::tcp(address.port()),
        (ListenAddress::Tcp(address), _) => {
            let identity = match caller {
                Caller::Certificate(authority) => Some(authorities[*authority].client("me")),
                _ => None,
            };
            Client::tls(address.port(), &servers, identity.as_ref())
        }
    };
    let clients = CALLERS.iter().map(|caller| (*caller, client(caller))).collect();
    let mut world = Fixture { directory, handle, requests, started_with, clients, bearer, tokens };
    let mut rng = Rng(seed);
    let mut in_use = started_with;
    let mut history = Vec::new();
    world.check(&in_use, &history);
    let mut accepted = 0;
    for number in 1..=reloads.unwrap_or(RELOADS) {
        let new = Listen::random(&mut rng);
        history.push(new);
        let is_accepted = world.reload(number, &new);
        assert_eq!(
            is_accepted,
            started_with.allows(&new),
            "started with {started_with:?}: {new:?}"
        );
        if is_accepted {
            (in_use, accepted) = (new, accepted + 1);
        }
        world.check(&in_use, &history);
    }
    assert!(accepted > 0 && accepted < history.len() || started_with.address == Address::Unix);
    runtime.block_on(async {
        world.requests.send(ControlRequest::Stop).await.unwrap();
        app.await.unwrap();
        server.stop().await;
    });
}

const TOKEN: Listen = Listen {
    address: Address::Wildcard,
    tokens: [true, true, true],
    tls: Tls::Off,
    clients_are_admins: false,
};

#[test]
fn random_reloads_on_loopback_socket_keep_rights() {
    reload_at_random(Listen { address: Address::Loopback, tokens: [false; 3], ..TOKEN }, 1);
}

#[test]
fn random_reloads_on_public_socket_keep_rights() {
    reload_at_random(TOKEN, 2);
}

#[test]
fn random_reloads_on_loopback_tls_socket_keep_rights() {
    reload_at_random(Listen { address: Address::Loopback, tls: Tls::Clients(0), ..TOKEN }, 3);
}

#[test]
fn random_reloads_on_public_tls_socket_keep_rights() {
    reload_at_random(Listen { tls: Tls::ServerOnly, ..TOKEN }, 4);
}

#[test]
fn random_reloads_on_client_cert_socket_keep_rights() {
    reload_at_random(Listen { tokens: [false; 3], tls: Tls::Clients(1), ..TOKEN }, 5);
}

#[test]
fn random_reloads_on_unix_socket_keep_rights() {
    reload_at_random(Listen { address: Address::Unix, ..TOKEN }, 6);
}
