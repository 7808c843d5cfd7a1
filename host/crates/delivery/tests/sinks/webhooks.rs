//! Requests, to a real server.

use crate::site::{Given, Place, until, work};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use reloader_delivery::{SinkState, Webhook, WebhookFormat, WebhookSettings, WorkerSettings};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::Sha256;
use std::{
    collections::VecDeque,
    convert::Infallible,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What was asked for, and when.
struct Asked {
    headers: http::HeaderMap,
    path: String,
    body: Bytes,
    at: Instant,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server that answers what it is told to, and 200 then.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

type Answer = (u16, Option<(&'static str, &'static str)>);

impl Server {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::start_with(answers, None).await
    }

    async fn start_with(
        answers: impl IntoIterator<Item = Answer>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let kept = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answers, tls) = (Arc::clone(&kept), Arc::clone(&answers), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, seen, answers).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, seen, answers).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, task }
    }

    fn settings(&self) -> WebhookSettings {
        WebhookSettings::new(format!("http://{}/hook?a=1", self.address))
    }

    /// So many requests, when they are there.
    async fn asked(&self, number: usize) -> Vec<Asked> {
        let all = until(|| {
            let mut seen = self.seen.lock().unwrap();
            (seen.len() >= number).then(|| std::mem::take(&mut *seen))
        });
        all.await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    seen: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
) {
    let answer = service_fn(|request: Request<Incoming>| {
        let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            assert_eq!(parts.method, http::Method::POST);
            let (path, at) = (parts.uri.to_string(), Instant::now());
            seen.lock().unwrap().push(Asked { headers: parts.headers, path, body, at });
            let (status, header) = answers.lock().unwrap().pop_front().unwrap_or((200, None));
            let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
            if let Some((name, value)) = header {
                response = response.header(name, value);
            }
            Ok::<_, Infallible>(response.body(Empty::<Bytes>::new()).unwrap())
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

fn hook(settings: WebhookSettings) -> Webhook {
    Webhook::new(settings).unwrap()
}

#[tokio::test]
async fn a_value_is_posted_as_json() {
    let server = Server::start([]).await;
    let app = Given::with("app", "value");
    let mut working = work(&[&app], hook(server.settings()), WorkerSettings::default());
    working.has(1).await;
    let asked = &server.asked(1).await[0];
    assert_eq!(
        (asked.path.as_str(), asked.header("content-type")),
        ("/hook?a=1", "application/json")
    );
    assert_eq!(asked.header("host"), server.address.to_string());
    assert!(asked.header("user-agent").starts_with("reloader-host/"));
    let json = asked.json();
    assert_eq!(json["source"], "app");
    assert_eq!(json["event"], "changed");
    assert_eq!(json["revision"], 1);
    assert_eq!(json["content"], "value");
    assert_eq!(asked.header("webhook-signature"), "", "there is no secret");
}

#[tokio::test]
async fn or_as_a_cloud_event() {
    let server = Server::start([]).await;
    let app = Given::with("app", "value");
    let settings = WebhookSettings { format: WebhookFormat::CloudEvents, ..server.settings() };
    let _working = work(&[&app], hook(settings), WorkerSettings::default());
    let asked = &server.asked(1).await[0];
    assert_eq!(asked.header("content-type"), "application/cloudevents+json");
    let event = asked.json();
    for (name, value) in [
        ("specversion", "1.0"),
        ("type", "reloader.changed"),
        ("source", "/reloader/sources"),
        ("subject", "app"),
        ("datacontenttype", "application/json"),
        ("id", asked.header("idempotency-key")),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    assert_eq!(event["data"]["content"], "value");
}

#[tokio::test]
async fn each_try_of_a_value_has_the_same_id_and_the_next_value_another() {
    let server = Server::start([(500, None), (503, None)]).await;
    let app = Given::with("app", "a");
    let mut working = work(&[&app], hook(server.settings()), WorkerSettings::default());
    working.has(1).await;
    app.set("b");
    working.has(2).await;
    app.set("a");
    working.has(3).await;
    let asked = server.asked(5).await;
    let ids: Vec<_> = asked.iter().map(|asked| asked.header("idempotency-key")).collect();
    assert!(!ids[0].is_empty());
    assert_eq!((ids[0], ids[0]), (ids[1], ids[2]), "the same value");
    assert!(ids[2] != ids[3] && ids[3] != ids[4] && ids[4] != ids[0], "other values: {ids:?}");
}

#[tokio::test]
async fn a_request_is_signed_so_that_its_receiver_can_tell() {
    let place = Place::new();
    let key = b"0123456789abcdef";
    fs::write(place.file("secret"), format!("whsec_{}\n", STANDARD.encode(key))).unwrap();
    let server = Server::start([]).await;
    let app = Given::with("app", "value");
    let mut settings = server.settings();
    settings.secret = Some(format!("${{file:{}}}", place.file("secret").display()));
    let bearer = format!("Bearer ${{file:{}}}", place.file("secret").display());
    settings.headers.insert("authorization".into(), bearer);
    let _working = work(&[&app], hook(settings), WorkerSettings::default());
    let asked = &server.asked(1).await[0];
    let (id, at) = (asked.header("webhook-id"), asked.header("webhook-timestamp"));
    assert_eq!(id, asked.header("idempotency-key"));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("{id}.{at}.").as_bytes());
    mac.update(&asked.body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(asked.header("webhook-signature"), expected);
    assert!(asked.header("authorization").starts_with("Bearer whsec_"));
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named_and_nothing_is_sent_without_it() {
    let server = Server::start([]).await;
    let app = Given::with("app", "value");
    let mut settings = server.settings();
    settings.secret = Some("${env:RELOADER_NO_SUCH_SECRET}".into());
    let mut working = work(&[&app], hook(settings), WorkerSettings::default());
    let failure = working.failure().await;
    assert!(failure.starts_with("`secret`: "), "{failure}");
    assert!(failure.ends_with("there is no variable `RELOADER_NO_SUCH_SECRET`"), "{failure}");
    assert!(server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_the_server_refuses_is_not_sent_again_and_no_redirect_is_followed() {
    for (status, header) in [(400, None), (404, None), (302, Some(("location", "/elsewhere")))] {
        let server = Server::start([(status, header)]).await;
        let app = Given::with("app", "value");
        let mut working = work(&[&app], hook(server.settings()), WorkerSettings::default());
        let state = working.when(|status| status.state == SinkState::GivenUp).await;
        assert!(state.failing.unwrap().contains(&format!("the server answered {status}")));
        let asked = server.asked(1).await;
        assert_eq!((asked.len(), asked[0].path.as_str()), (1, "/hook?a=1"));
    }
}

#[tokio::test]
async fn a_server_that_asks_for_time_gets_it() {
    let server = Server::start([(429, Some(("retry-after", "1")))]).await;
    let app = Given::with("app", "value");
    let mut working = work(&[&app], hook(server.settings()), WorkerSettings::default());
    working.has(1).await;
    let asked = server.asked(2).await;
    assert!(asked[1].at - asked[0].at >= Duration::from_millis(990));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_and_one_that_comes_back_is_told() {
    // It listens, and nobody is there.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let app = Given::with("app", "value");
    let limit = Duration::from_millis(200);
    let settings = WorkerSettings { timeout: limit, ..WorkerSettings::default() };
    let url = WebhookSettings::new(format!("http://{address}/"));
    let mut working = work(&[&app], hook(url), settings);
    assert!(working.failure().await.contains("it took longer than 200ms"));
    drop(silent);
    let refused = working.when(|status| {
        status.failing.as_ref().is_some_and(|why| why.contains("cannot be reached"))
    });
    refused.await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (seen, answers) = (Arc::default(), Arc::default());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, seen, answers).await;
    });
    working.has(1).await;
}

/// A certificate of an authority of one's own.
fn private(place: &Place) -> TlsAcceptor {
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(place.file("ca.pem"), signed.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_server_with_an_authority_of_its_own_is_trusted_if_that_is_named() {
    let place = Place::new();
    let server = Server::start_with([], Some(private(&place))).await;
    let app = Given::with("app", "value");
    let mut settings = WebhookSettings::new(format!("https://{}/", server.address));
    let mut untrusting = work(&[&app], hook(settings.clone()), WorkerSettings::default());
    let failure = untrusting.failure().await;
    assert!(
        failure.contains("TLS: the certificate is of an authority that is not trusted"),
        "{failure}"
    );
    settings.ca = Some(place.file("ca.pem"));
    let mut working = work(&[&app], hook(settings), WorkerSettings::default());
    working.has(1).await;
    let asked = server.asked(1).await;
    assert_eq!(asked[0].headers[header::CONTENT_TYPE], "application/json");
}
