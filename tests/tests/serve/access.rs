//! Authentication and authorization: tokens, scopes, client certificates, cross-origin requests.

use crate::served::{APP, Served, token};
use e2e::{Authority, TestHost};
use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    sync::Arc,
};
use ureq::{
    Agent,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig},
};

const B: &str = "[[source]]\nname = \"b\"\nplugin = \"file\"\nconfig.path = \"app.in\"\n";

#[test]
fn each_endpoint_requires_sufficient_token() {
    let (reader, reads) = token(&["reader"]);
    let (limited, limits) = token(&["limited", "--scope", "admin", "--source", "b"]);
    let (admin, admits) = token(&["admin", "--scope", "admin"]);
    let served = Served::app(&format!("{B}{reads}{limits}{admits}"));
    let mut tried = 0;
    let description = served.get("/openapi.json").json();
    for (path, methods) in description["paths"].as_object().unwrap() {
        if ["/healthz", "/readyz", "/openapi.json"].contains(&path.as_str()) {
            assert_ne!(served.get(path).status, 401, "{path}");
            continue;
        }
        let is_of_all = !path.contains("{source}");
        let path = path.replace("{source}", "app");
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            tried += 1;
            let ask = |token: &str| served.ask(&method, &path, &[("authorization", token)]);
            let anonymous = served.ask(&method, &path, &[]);
            anonymous.is_problem(401, "Authorization: Bearer");
            assert!(anonymous.header("www-authenticate").starts_with("Bearer"), "{anonymous:?}");
            for wrong in ["Bearer nonsense", "Basic dXNlcjpwYXNz", "Bearer ", "Bearer", "nonsense"]
            {
                ask(wrong).is_problem(401, "");
            }
            if method == "POST" {
                ask(&reader).is_problem(403, "scope `admin`");
            }
            if !is_of_all {
                ask(&limited).is_problem(403, "source `app`");
            }
            if !path.ends_with("events") {
                let status = ask(&admin).status;
                assert!(![401, 403].contains(&status), "{method} {path}: {status}");
            }
        }
    }
    assert!(tried >= 9, "{tried}");
    let seen = served.ask("GET", "/v1/sources", &[("authorization", &limited)]).json();
    assert_eq!(seen["sources"].as_array().unwrap().len(), 1, "{seen}");
    assert!(served.get("/readyz").json().get("missing").is_none());
    let twice = [("authorization", &*reader), ("authorization", &*admin)];
    served.ask("GET", "/v1/sources", &twice).is_problem(401, "");
}

#[test]
fn removed_token_is_rejected() {
    let (reader, reads) = token(&["reader"]);
    let (_, other) = token(&["other"]);
    let served = Served::app(&reads);
    let mut events = served.open("/v1/events", &[("authorization", &reader)]).into_body();
    served.t.replace("reloader.toml", format!("{APP}{other}"));
    e2e::wait_until("status 401", || {
        served.ask("GET", "/v1/sources", &[("authorization", &reader)]).status == 401
    });
    served.t.replace("app.in", "two");
    // The host ends event streams that were opened with the removed token.
    let mut rest = String::new();
    events.as_reader().read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("\"revision\":2"), "{rest}");
}

#[test]
fn public_address_requires_credentials() {
    let t = TestHost::new();
    t.write("reloader.toml", APP);
    let refused = t.finish(&["run", "--config", "reloader.toml", "--listen", "0.0.0.0:0"]);
    let (status, message) = refused.status_and_error();
    assert!(status == Some(2) && message.contains("host token"), "{message}");
    t.write("reloader.toml", format!("{APP}[listen]\naddress = \"[::]:0\"\n"));
    let refused = t.finish(&["check"]);
    let (status, message) = refused.status_and_error();
    assert!(
        status == Some(2) && message.contains("reloader.toml:8:11: `[::]:0` is not loopback"),
        "{message}"
    );
}

/// Configuration that listens on a public address and has no credentials.
const PUBLIC: &str = "[listen]\naddress = \"0.0.0.0:0\"\n";

/// Starts a host on a public address with the configuration `configured` and a token. Asserts that the
/// host rejects a reload to the configuration `weakened`, which has no token.
fn assert_weaker_configuration_rejected(arguments: &[&str], configured: &str, weakened: &str) {
    let (admin, admits) = token(&["admin", "--scope", "admin"]);
    let t = TestHost::new();
    t.write("app.in", "one");
    let mut served = Served::start(t, &format!("{APP}{configured}{admits}"), arguments);
    served.base = served.base.replace("0.0.0.0", "127.0.0.1");
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        served.ask(method, path, &[headers, &[("host", "localhost")]].concat()).status
    };
    served.t.replace("reloader.toml", format!("{APP}{weakened}"));
    served.host.wait_for_log("is not loopback: a token");
    assert_eq!(ask("GET", "/v1/sources/app/value", &[]), 401);
    assert_eq!(ask("POST", "/v1/sources/app/reload", &[]), 401);
    let admin = [("authorization", &*admin)];
    assert_eq!(ask("POST", "/v1/sources/app/reload", &admin), 200);
    let sources = served.ask("GET", "/v1/sources", &admin).json();
    let reason = sources["config_error"].as_str().unwrap();
    assert!(reason.contains("a token (`[[listen.token]]`)"), "{reason}");
    assert_eq!(served.host.stop().code(), Some(0), "{}", served.host.stderr());
}

e2e::cases! {
    /// A host with a public socket rejects a configuration without credentials, even if the configuration
    /// contains a loopback address or none: the public socket stays bound until the host exits.
    mod reload_without_credentials_on_public_socket_is_rejected:
        assert_weaker_configuration_rejected
    {
        address_of_flag(&["--listen", "0.0.0.0:0"], "", "");
        loopback_in_new_configuration(&[], PUBLIC, "[listen]\naddress = \"127.0.0.1:0\"\n");
        no_address_in_new_configuration(&[], PUBLIC, "");
    }
}

#[test]
fn secret_values_are_not_served() {
    let secret = format!("{}store = false\n", B);
    let served = Served::app(&secret);
    served.get("/v1/sources/b/value").is_problem(403, "readable = true");
    served.get("/v1/sources/b/value?revision=1").is_problem(403, "readable = true");
    let history = served.get("/v1/sources/b/history");
    assert_eq!((history.status, &history.json()["revisions"][0]["sha256"]), (200, &().into()));
    served.t.replace("reloader.toml", format!("{APP}{secret}readable = true\n"));
    served.wait_for("/v1/sources/b/value", 200);
}

/// Cross-origin requests and DNS rebinding are rejected.
#[test]
fn cross_origin_and_rebinding_are_rejected() {
    let served = Served::app("");
    let ask = |headers: &[(&str, &str)]| served.ask("GET", "/v1/sources", headers);
    ask(&[("origin", "https://evil.example")]).is_problem(403, "cross-origin request rejected");
    ask(&[("origin", "null")]).is_problem(403, "cross-origin request rejected");
    ask(&[("sec-fetch-site", "cross-site")]).is_problem(403, "cross-origin request rejected");
    ask(&[("sec-fetch-site", "same-site")]).is_problem(403, "cross-origin request rejected");
    ask(&[("host", "evil.example")]).is_problem(421, "`localhost`");
    let own = served.base.clone();
    assert_eq!(ask(&[("origin", &own), ("sec-fetch-site", "same-origin")]).status, 200);
    assert_eq!(ask(&[("host", "localhost:1")]).status, 200);
}

#[test]
fn unix_socket_is_private() {
    let t = TestHost::new();
    t.write("app.in", "one");
    let (_, tokens) = token(&["reader"]);
    let config = format!("{APP}[listen]\naddress = \"unix:api.sock\"\n{tokens}");
    let mut served = Served::start(t, &config, &[]);
    let path = served.t.path("api.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(
            b"GET /v1/sources/app/value?wait=30s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        )
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("one"), "{answer}");
    assert_eq!(served.host.stop().code(), Some(0), "{}", served.host.stderr());
    assert!(!path.exists());
}

fn secure(authority: &Authority, client: Option<&e2e::Identity>) -> Agent {
    let root = Certificate::from_pem(authority.pem().as_bytes()).unwrap().to_owned();
    let client = client.map(|identity| {
        let certificate = Certificate::from_pem(identity.certificate.as_bytes()).unwrap();
        let key = PrivateKey::from_pem(identity.key.as_bytes()).unwrap();
        ClientCert::new_with_certs(&[certificate.to_owned()], key.to_owned())
    });
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(vec![root])))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .client_cert(client)
        .build();
    let config = Agent::config_builder().http_status_as_error(false).tls_config(tls);
    // Without keep-alive, each request sees the current server certificate.
    config.max_idle_connections(0).build().into()
}

#[test]
fn client_certificates_authenticate_and_rotate() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let t = TestHost::new();
    t.write("app.in", "one");
    let identity = servers.server(&["localhost", "127.0.0.1"]);
    t.write("server.pem", &identity.certificate);
    t.write("server.key", &identity.key);
    t.write("clients.pem", clients.pem());
    let listen = "[listen]\naddress = \"127.0.0.1:0\"\n\
                  tls = { cert = \"server.pem\", key = \"server.key\", client-ca = \"clients.pem\" }\n";
    let mut served = Served::start(t, &format!("{APP}{listen}"), &[]);
    assert!(served.base.starts_with("https://"), "{}", served.base);
    served.set_agent(secure(&servers, None));
    served.get("/v1/sources").is_problem(401, "");
    let client = clients.client("me");
    served.set_agent(secure(&servers, Some(&client)));
    assert_eq!(served.get("/v1/sources/app/value?wait=30s").text, "one");
    served.post("/v1/sources/app/reload").is_problem(403, "admin");
    // A certificate of another authority is rejected.
    let stranger = Authority::new("strangers").client("me");
    let strange = secure(&servers, Some(&stranger));
    assert!(strange.get(format!("{}/v1/sources", served.base)).call().is_err());
    // A new certificate is served immediately; an invalid file changes nothing.
    let others = Authority::new("others");
    let identity = others.server(&["localhost", "127.0.0.1"]);
    served.t.replace("server.key", &identity.key);
    served.t.replace("server.pem", &identity.certificate);
    let url = format!("{}/healthz", served.base);
    let agent = secure(&others, None);
    e2e::wait_until("the other certificate is served", || agent.get(&url).call().is_ok());
    served.t.replace("server.pem", "nonsense");
    e2e::wait_until("the new certificate", || {
        assert!(agent.get(&url).call().is_ok());
        served.host.stderr().contains("TLS file of the API unusable")
    });
}
