//! Tests of the sink `webhook`, with a real HTTP server.

use crate::harness::{TestDir, TestSource, spawn_worker, wait_until};
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

/// Request that the test server received.
struct ReceivedRequest {
    headers: http::HeaderMap,
    path: String,
    body: Bytes,
    at: Instant,
}

impl ReceivedRequest {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// HTTP server that answers the first requests with the given answers, and further requests with status 200.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<ReceivedRequest>>>,
    task: JoinHandle<()>,
}

/// Status of a response, and an additional header field.
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
        let seen: Arc<Mutex<Vec<ReceivedRequest>>> = Arc::default();
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let received = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answers, tls) =
                    (Arc::clone(&received), Arc::clone(&answers), tls.clone());
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

    /// Waits for this number of requests and returns them.
    async fn requests(&self, number: usize) -> Vec<ReceivedRequest> {
        let all = wait_until(|| {
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
    seen: Arc<Mutex<Vec<ReceivedRequest>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
) {
    let answer = service_fn(|request: Request<Incoming>| {
        let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            assert_eq!(parts.method, http::Method::POST);
            let (path, at) = (parts.uri.to_string(), Instant::now());
            seen.lock().unwrap().push(ReceivedRequest { headers: parts.headers, path, body, at });
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
async fn value_is_posted_as_json() {
    let server = Server::start([]).await;
    let app = TestSource::with("app", "value");
    let mut worker = spawn_worker(&[&app], hook(server.settings()), WorkerSettings::default());
    worker.delivered(1).await;
    let request = &server.requests(1).await[0];
    assert_eq!(
        (request.path.as_str(), request.header("content-type")),
        ("/hook?a=1", "application/json")
    );
    assert_eq!(request.header("host"), server.address.to_string());
    assert!(request.header("user-agent").starts_with("reloader-host/"));
    let json = request.json();
    assert_eq!(json["source"], "app");
    assert_eq!(json["event"], "changed");
    assert_eq!(json["revision"], 1);
    assert_eq!(json["content"], "value");
    assert_eq!(request.header("webhook-signature"), "", "no secret");
}

#[tokio::test]
async fn value_is_posted_as_cloud_event() {
    let server = Server::start([]).await;
    let app = TestSource::with("app", "value");
    let settings = WebhookSettings { format: WebhookFormat::CloudEvents, ..server.settings() };
    let _worker = spawn_worker(&[&app], hook(settings), WorkerSettings::default());
    let request = &server.requests(1).await[0];
    assert_eq!(request.header("content-type"), "application/cloudevents+json");
    let event = request.json();
    for (name, value) in [
        ("specversion", "1.0"),
        ("type", "reloader.changed"),
        ("source", "/reloader/sources"),
        ("subject", "app"),
        ("datacontenttype", "application/json"),
        ("id", request.header("idempotency-key")),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    assert_eq!(event["data"]["content"], "value");
}

#[tokio::test]
async fn attempts_share_the_idempotency_key() {
    let server = Server::start([(500, None), (503, None)]).await;
    let app = TestSource::with("app", "a");
    let mut worker = spawn_worker(&[&app], hook(server.settings()), WorkerSettings::default());
    worker.delivered(1).await;
    app.set("b");
    worker.delivered(2).await;
    app.set("a");
    worker.delivered(3).await;
    let requests = server.requests(5).await;
    let ids: Vec<_> = requests.iter().map(|request| request.header("idempotency-key")).collect();
    assert!(!ids[0].is_empty());
    assert_eq!((ids[0], ids[0]), (ids[1], ids[2]), "the same value");
    assert!(ids[2] != ids[3] && ids[3] != ids[4] && ids[4] != ids[0], "other values: {ids:?}");
}

#[tokio::test]
async fn request_is_signed() {
    let dir = TestDir::new();
    let key = b"0123456789abcdef";
    fs::write(dir.file("secret"), format!("whsec_{}\n", STANDARD.encode(key))).unwrap();
    let server = Server::start([]).await;
    let app = TestSource::with("app", "value");
    let mut settings = server.settings();
    settings.secret = Some(format!("${{file:{}}}", dir.file("secret").display()));
    let bearer = format!("Bearer ${{file:{}}}", dir.file("secret").display());
    settings.headers.insert("authorization".into(), bearer);
    let _worker = spawn_worker(&[&app], hook(settings), WorkerSettings::default());
    let request = &server.requests(1).await[0];
    let (id, at) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    assert_eq!(id, request.header("idempotency-key"));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("{id}.{at}.").as_bytes());
    mac.update(&request.body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(request.header("webhook-signature"), expected);
    assert!(request.header("authorization").starts_with("Bearer whsec_"));
}

#[tokio::test]
async fn missing_secret_prevents_the_request() {
    let server = Server::start([]).await;
    let app = TestSource::with("app", "value");
    let mut settings = server.settings();
    settings.secret = Some("${env:RELOADER_NO_SUCH_SECRET}".into());
    let mut worker = spawn_worker(&[&app], hook(settings), WorkerSettings::default());
    let failure = worker.failure().await;
    assert!(failure.starts_with("`secret`: "), "{failure}");
    assert!(
        failure.ends_with("environment variable `RELOADER_NO_SUCH_SECRET` is not set"),
        "{failure}"
    );
    assert!(server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn client_errors_and_redirects_are_not_retried() {
    for (status, header) in [(400, None), (404, None), (302, Some(("location", "/elsewhere")))] {
        let server = Server::start([(status, header)]).await;
        let app = TestSource::with("app", "value");
        let mut worker = spawn_worker(&[&app], hook(server.settings()), WorkerSettings::default());
        let state = worker.when(|status| status.state == SinkState::GivenUp).await;
        assert!(state.failing.unwrap().contains(&format!("the server returned {status}")));
        let requests = server.requests(1).await;
        assert_eq!((requests.len(), requests[0].path.as_str()), (1, "/hook?a=1"));
    }
}

#[tokio::test]
async fn retry_after_header_delays_the_retry() {
    let server = Server::start([(429, Some(("retry-after", "1")))]).await;
    let app = TestSource::with("app", "value");
    let mut worker = spawn_worker(&[&app], hook(server.settings()), WorkerSettings::default());
    worker.delivered(1).await;
    let requests = server.requests(2).await;
    assert!(requests[1].at - requests[0].at >= Duration::from_millis(990));
}

#[tokio::test]
async fn recovered_server_receives_the_value() {
    // The kernel accepts connections to this listener, and no server answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let app = TestSource::with("app", "value");
    let limit = Duration::from_millis(200);
    let settings = WorkerSettings { timeout: limit, ..WorkerSettings::default() };
    let url = WebhookSettings::new(format!("http://{address}/"));
    let mut worker = spawn_worker(&[&app], hook(url), settings);
    assert!(worker.failure().await.contains("timed out after 200ms"));
    drop(silent);
    let is_unreachable = |failing: &str| failing.contains("cannot connect to");
    worker.when(|status| status.failing.as_deref().is_some_and(is_unreachable)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (seen, answers) = (Arc::default(), Arc::default());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, seen, answers).await;
    });
    worker.delivered(1).await;
}

/// Returns a TLS acceptor with a self-signed certificate, and writes the certificate to `ca.pem`.
fn self_signed(dir: &TestDir) -> TlsAcceptor {
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(dir.file("ca.pem"), signed.cert.pem()).unwrap();
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
async fn private_certificate_authority_is_trusted() {
    let dir = TestDir::new();
    let server = Server::start_with([], Some(self_signed(&dir))).await;
    let app = TestSource::with("app", "value");
    let mut settings = WebhookSettings::new(format!("https://{}/", server.address));
    let mut untrusting = spawn_worker(&[&app], hook(settings.clone()), WorkerSettings::default());
    let failure = untrusting.failure().await;
    assert!(
        failure.contains("TLS: the server certificate was not issued by a trusted authority"),
        "{failure}"
    );
    settings.ca = Some(dir.file("ca.pem"));
    let mut worker = spawn_worker(&[&app], hook(settings), WorkerSettings::default());
    worker.delivered(1).await;
    let requests = server.requests(1).await;
    assert_eq!(requests[0].headers[header::CONTENT_TYPE], "application/json");
}
