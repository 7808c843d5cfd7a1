//! Tests of egress: dialled addresses, timeouts, limits and connection reuse.
#![allow(clippy::unwrap_used, reason = "a failed setup step fails the test")]

use crate::{
    body::{Body, BodyError},
    bounded_name_lookups::Resolve,
    deadline::RequestTimeouts,
    dial::DialError,
    egress::{Egress, EgressLimits, EgressSettings, Network},
    http_exchange::RequestError,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use reloader_policy::HostPort;
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Builder,
    time::timeout,
};

const SECOND: Duration = Duration::from_secs(1);
/// Upper bound of every wait in these tests. Only a failing test reaches it.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Resolver that returns its answers in order, and then repeats the last one.
#[derive(Debug)]
struct ScriptedResolver {
    answers: Vec<Vec<SocketAddr>>,
    lookups: AtomicUsize,
}

impl Resolve for ScriptedResolver {
    fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let number = self.lookups.fetch_add(1, Ordering::Relaxed);
        Ok(self.answers[number.min(self.answers.len() - 1)].clone())
    }
}

/// Resolver that blocks until the test releases it. For `prompt.example`, it returns an error immediately.
#[derive(Debug)]
struct HangingResolver {
    started: Mutex<Sender<String>>,
    release: Mutex<Receiver<()>>,
}

impl Resolve for HangingResolver {
    fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        if host == "prompt.example" {
            return Err(io::Error::other("no such name"));
        }
        self.started.lock().unwrap().send(host.to_owned()).unwrap();
        let _ = self.release.lock().unwrap().recv();
        Err(io::Error::other("released"))
    }
}

fn bounds() -> EgressLimits {
    EgressLimits {
        connections: 4,
        connect: TEST_TIMEOUT,
        idle: TEST_TIMEOUT,
        total: TEST_TIMEOUT,
        body: 1 << 20,
        head: 64 << 10,
    }
}

fn scripted(answers: &[&[SocketAddr]]) -> (Arc<ScriptedResolver>, Network) {
    let answers = answers.iter().map(|answer| answer.to_vec()).collect();
    let resolver = Arc::new(ScriptedResolver { answers, lookups: AtomicUsize::new(0) });
    (Arc::clone(&resolver), Network::resolving(resolver))
}

fn allowing(range: &str) -> EgressSettings {
    let mut reach = EgressSettings::default();
    reach.addresses.allow(range.parse().unwrap());
    reach
}

fn loopback() -> EgressSettings {
    allowing("127.0.0.0/8")
}

fn to(host: &str, port: u16) -> HostPort {
    HostPort::new(host, port).unwrap()
}

/// Starts a server that runs `each` for each connection. Returns its address and the number of connections.
fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, each) = (Arc::new(AtomicUsize::new(0)), Arc::new(each));
    let counter = Arc::clone(&accepted);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            let each = Arc::clone(&each);
            thread::spawn(move || each(stream));
        }
    });
    (address, accepted)
}

/// Sends `answer` after each request on a connection.
fn answering(answer: &'static str) -> impl Fn(TcpStream) + Send + Sync + 'static {
    move |mut stream| {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Sends `greeting`, then reads and discards data without an answer.
fn silent_after(greeting: &'static str) -> impl Fn(TcpStream) + Send + Sync + 'static {
    move |mut stream| {
        let _ = stream.write_all(greeting.as_bytes());
        let _ = io::copy(&mut stream, &mut io::sink());
    }
}

/// Waits for a request, then behaves as [`silent_after`].
fn stalling_after(greeting: &'static str) -> impl Fn(TcpStream) + Send + Sync + 'static {
    let silent = silent_after(greeting);
    move |mut stream| {
        if stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {
            silent(stream);
        }
    }
}

async fn get(
    egress: &Egress,
    url: &str,
    times: RequestTimeouts,
) -> Result<Response<Body>, RequestError> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    egress.send(Request::get(url).body(body).unwrap(), times).await
}

async fn failure(egress: &Egress, url: &str, times: RequestTimeouts) -> String {
    match get(egress, url, times).await {
        Ok(_) => panic!("{url} returned a response"),
        Err(error) => error.to_string(),
    }
}

async fn text(egress: &Egress, url: &str) -> Result<String, String> {
    let response =
        get(egress, url, RequestTimeouts::default()).await.map_err(|error| error.to_string())?;
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(body.to_bytes().into()).unwrap())
}

/// The resolver first returns an allowed address, then a denied one. The first connection goes to the allowed address
/// without a second lookup, and the second connection is denied.
#[tokio::test]
async fn dns_rebinding_is_prevented() {
    let (good, _) = serve(silent_after("good"));
    let (denied, visits) = serve(silent_after("denied"));
    // The policy allows only 127.0.0.1, the first answer of the resolver.
    let denied = SocketAddr::new("127.0.0.2".parse().unwrap(), denied.port());
    let (resolver, network) = scripted(&[&[good], &[denied]]);
    let egress = network.egress(allowing("127.0.0.1"), bounds());
    let mut connection =
        egress.dial(&to("rebinding.example", 80), false, TEST_TIMEOUT).await.unwrap();
    let mut received = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut connection.stream, &mut received).await.unwrap();
    assert_eq!(&received, b"good");
    assert_eq!(resolver.lookups.load(Ordering::Relaxed), 1, "one lookup for each dial");
    let second = egress.dial(&to("rebinding.example", 80), false, TEST_TIMEOUT).await;
    assert!(matches!(second, Err(DialError::Denied(_))), "the second answer is checked too");
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn one_denied_address_denies_the_name() {
    let (server, visits) = serve(silent_after(""));
    let private = "10.0.0.7:80".parse().unwrap();
    let (_, network) = scripted(&[&[server, private]]);
    let egress = network.egress(loopback(), bounds());
    let message = "connection to `mixed.example:80` denied: the name resolves to 10.0.0.7, a private \
                   address; `--allow-address 10.0.0.7` would allow it";
    match egress.dial(&to("mixed.example", 80), false, TEST_TIMEOUT).await {
        Err(DialError::Denied(error)) => assert_eq!(error.to_string(), message),
        other => panic!("{:?}", other.err()),
    }
    let times = RequestTimeouts::default();
    assert_eq!(failure(&egress, "http://mixed.example/", times).await, message);
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn happy_eyeballs_skips_dead_addresses() {
    let (server, _) = serve(silent_after(""));
    // The first address refuses connections. The second one does not exist (TEST-NET-1).
    let (refusing, dead) = ("127.0.0.1:1".parse().unwrap(), "192.0.2.1:80".parse().unwrap());
    let mut reach = loopback();
    reach.addresses.allow("192.0.2.1".parse().unwrap());
    let (_, network) = scripted(&[&[refusing, dead, server]]);
    let egress = network.egress(reach, bounds());
    let start = Instant::now();
    egress.dial(&to("several.example", 80), false, TEST_TIMEOUT).await.unwrap();
    assert!(start.elapsed() < 5 * SECOND);
}

#[tokio::test]
async fn dial_error_lists_all_addresses() {
    let dead: [SocketAddr; 2] = ["127.0.0.1:1".parse().unwrap(), "127.0.0.2:1".parse().unwrap()];
    let (_, network) = scripted(&[&dead]);
    let egress = network.egress(loopback(), bounds());
    let failed = egress.dial(&to("down.example", 1), false, TEST_TIMEOUT).await.err().unwrap();
    assert_eq!(
        failed.to_string(),
        "down.example:1: cannot connect to any address: 127.0.0.1: Connection refused (os error 111), \
         127.0.0.2: Connection refused (os error 111)"
    );
}

#[tokio::test]
async fn hanging_lookups_are_bounded_per_source() {
    let ((started, lookups), (release, released)) = (channel(), channel());
    let resolver = HangingResolver { started: Mutex::new(started), release: Mutex::new(released) };
    let network = Network::resolving(Arc::new(resolver));
    let egress = network.egress(EgressSettings::default(), bounds());
    let moment = Duration::from_millis(50);
    for number in 0..4 {
        let to = to(&format!("hangs-{number}.example"), 80);
        let failed = egress.dial(&to, false, moment).await.err().unwrap().to_string();
        let expected = "timed out while resolving the name (plugin timeout 50ms)";
        assert_eq!(failed, format!("{to}: {expected}"));
    }
    let names: Vec<_> = lookups.try_iter().collect();
    assert_eq!(names, ["hangs-0.example", "hangs-1.example"], "the others wait for a permit");
    let other = network.egress(EgressSettings::default(), bounds());
    let failed = other.dial(&to("prompt.example", 80), false, TEST_TIMEOUT).await.err().unwrap();
    assert_eq!(failed.to_string(), "prompt.example:80: no such name");
    drop(release);
}

/// 66 lookups of 33 sources hang, more than the 64 that the thread pool runs at the same time. A lookup of another
/// source still runs.
#[tokio::test]
async fn hanging_lookups_of_many_sources_do_not_stop_others() {
    const SOURCES: usize = 33;
    let ((started, lookups), (release, released)) = (channel(), channel());
    let resolver = HangingResolver { started: Mutex::new(started), release: Mutex::new(released) };
    let network = Network::resolving(Arc::new(resolver));
    let mut hanging = tokio::task::JoinSet::new();
    for source in 0..SOURCES {
        let egress = Arc::new(network.egress(EgressSettings::default(), bounds()));
        for lookup in 0..2 {
            let (egress, to) =
                (Arc::clone(&egress), to(&format!("hangs-{source}-{lookup}.example"), 80));
            hanging.spawn(async move { egress.dial(&to, false, TEST_TIMEOUT).await.err() });
        }
    }
    tokio::task::spawn_blocking(move || {
        for _ in 0..2 * SOURCES {
            lookups.recv_timeout(TEST_TIMEOUT).expect("all lookups start");
        }
        lookups
    })
    .await
    .unwrap();
    let other = network.egress(EgressSettings::default(), bounds());
    let failed = other.dial(&to("prompt.example", 80), false, TEST_TIMEOUT).await.err().unwrap();
    assert_eq!(failed.to_string(), "prompt.example:80: no such name");
    drop(release);
}

#[tokio::test]
async fn timeout_names_phase_and_setting() {
    let (server, _) = serve(silent_after(""));
    let address = server.to_string();
    let moment = Duration::from_millis(500);
    let short = EgressLimits { connect: moment, ..bounds() };
    let egress = Network::default().egress(EgressSettings::default(), short);
    let limit = "timed out while performing the TLS handshake (limit `connect-timeout` is 500ms); does \
                 the server speak TLS on this port?";
    let stalled = egress.dial(&to("127.0.0.1", server.port()), true, TEST_TIMEOUT).await;
    assert_eq!(stalled.err().unwrap().to_string(), format!("{address}: {limit}"));
    let url = format!("https://{address}/");
    assert_eq!(
        failure(&egress, &url, RequestTimeouts::default()).await,
        format!("{address}: {limit}")
    );

    let egress = Network::default().egress(EgressSettings::default(), bounds());
    let times =
        RequestTimeouts { connect: Some(moment), first_byte: Some(moment), between_bytes: None };
    let over = "timed out while performing the TLS handshake (plugin timeout 500ms); does the server \
                speak TLS on this port?";
    assert_eq!(failure(&egress, &url, times).await, format!("{address}: {over}"));
    let silent = get(&egress, &format!("http://{address}/"), times).await;
    assert!(matches!(silent, Err(RequestError::TimedOut)), "the timeout of the plugin has passed");

    let egress = Network::default()
        .egress(EgressSettings::default(), EgressLimits { total: moment, ..bounds() });
    let over = "timed out while waiting for the response (limit `http-total` is 500ms)";
    let url = format!("http://{address}/");
    assert_eq!(
        failure(&egress, &url, RequestTimeouts::default()).await,
        format!("{address}: {over}")
    );
}

#[tokio::test]
async fn body_has_timeouts_and_size_limit() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this";
    let (server, _) = serve(stalling_after(head));
    let (address, url) = (server.to_string(), format!("http://{server}/"));
    let moment = Duration::from_millis(50);
    let egress = Network::default().egress(EgressSettings::default(), bounds());
    let times = RequestTimeouts { between_bytes: Some(moment), ..RequestTimeouts::default() };
    let body = get(&egress, &url, times).await.unwrap().into_body();
    let over = "timed out while receiving the body (plugin timeout 50ms)";
    assert_eq!(body.collect().await.err().unwrap().to_string(), format!("{address}: {over}"));

    let egress = Network::default()
        .egress(EgressSettings::default(), EgressLimits { total: 4 * moment, ..bounds() });
    let over = "timed out while receiving the body (limit `http-total` is 200ms)";
    assert_eq!(text(&egress, &url).await, Err(format!("{address}: {over}")));

    let egress =
        Network::default().egress(EgressSettings::default(), EgressLimits { body: 8, ..bounds() });
    assert_eq!(text(&egress, &url).await, Err(BodyError::TooLarge.to_string()));
}

#[tokio::test]
async fn connections_and_requests_share_a_limit() {
    let (server, _) = serve(stalling_after("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nonly"));
    let (to, url) = (to("127.0.0.1", server.port()), format!("http://{server}/"));
    let egress = Network::default()
        .egress(EgressSettings::default(), EgressLimits { connections: 2, ..bounds() });
    let connection = egress.dial(&to, false, TEST_TIMEOUT).await.unwrap();
    let response = get(&egress, &url, RequestTimeouts::default()).await.unwrap();
    let over = "too many concurrent connections and requests (limit `connections` is 2)";
    let third = egress.dial(&to, false, TEST_TIMEOUT).await;
    assert_eq!(third.err().unwrap().to_string(), format!("{to}: {over}"));
    assert_eq!(failure(&egress, &url, RequestTimeouts::default()).await, format!("{to}: {over}"));
    drop(response);
    assert!(egress.dial(&to, false, TEST_TIMEOUT).await.is_ok(), "the response was dropped");
    drop(connection);
    assert!(
        get(&egress, &url, RequestTimeouts::default()).await.is_ok(),
        "the connections were dropped"
    );
}

/// A connection is made in one runtime and used in another one, while the first one is not polled.
#[test]
fn connection_works_while_dialling_runtime_is_idle() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (server, _) = serve(answering("pong"));
    let network = Network::default();
    let egress = network.egress(EgressSettings::default(), bounds());
    let to = to("127.0.0.1", server.port());
    let dialling_runtime = runtime();
    let mut connection = dialling_runtime.block_on(egress.dial(&to, false, TEST_TIMEOUT)).unwrap();
    let mut answer = [0; 4];
    let read = runtime().block_on(async {
        connection.stream.write_all(b"ping").await.unwrap();
        timeout(TEST_TIMEOUT, connection.stream.read_exact(&mut answer)).await
    });
    assert!(read.is_ok_and(|read| read.is_ok()));
    assert_eq!(&answer, b"pong");
}

#[tokio::test]
async fn connections_are_reused_within_a_source_only() {
    let (server, connections) = serve(answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
    let url = format!("http://{server}/");
    let network = Network::default();
    let (one, other) = (
        network.egress(EgressSettings::default(), bounds()),
        network.egress(EgressSettings::default(), bounds()),
    );
    for _ in 0..50 {
        assert_eq!(text(&one, &url).await, Ok("ok".into()));
    }
    // A request may start before the connection of the previous request is back in the pool.
    let made = connections.load(Ordering::SeqCst);
    assert!(made < 25, "{made} connections for 50 requests");
    assert_eq!(text(&other, &url).await, Ok("ok".into()));
    assert_eq!(connections.load(Ordering::SeqCst), made + 1);
}

#[tokio::test]
async fn endless_response_head_is_rejected() {
    let (server, _) = serve(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"x-again: and again\r\n").is_ok() {}
    });
    let egress = Network::default().egress(EgressSettings::default(), bounds());
    let message = failure(&egress, &format!("http://{server}/"), RequestTimeouts::default()).await;
    assert_eq!(
        message,
        format!(
            "{server}: invalid response head: too large (limit `http-head` is 65536 bytes), too many header fields (at most 100), or an invalid `content-length`"
        )
    );
}

/// 64 KiB of zeros, compressed with gzip.
const ZEROS: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xed\xc1\x01\x01\x00\x00\x00\x80\x90\
      \xfe\xaf\xee\x08\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
      \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
      \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
      \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x6a\xeb\x8e\x97\xd7\x00\x00\x01\
      \x00";

fn compressed(length: usize) -> SocketAddr {
    let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n";
    let (server, _) = serve(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&[head.as_bytes(), &ZEROS[..length]].concat());
    });
    server
}

#[tokio::test]
async fn size_limit_applies_to_decompressed_body() {
    let url = format!("http://{}/", compressed(ZEROS.len()));
    let egress = Network::default().egress(EgressSettings::default(), bounds());
    let response = get(&egress, &url, RequestTimeouts::default()).await.unwrap();
    assert!(!response.headers().contains_key("content-encoding"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!((body.len(), body.iter().all(|byte| *byte == 0)), (64 << 10, true));

    let egress = Network::default()
        .egress(EgressSettings::default(), EgressLimits { body: 32 << 10, ..bounds() });
    assert_eq!(text(&egress, &url).await, Err(BodyError::TooLarge.to_string()));

    let (endless, _) = serve(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n";
        let _ = stream.write_all(&[head.as_bytes(), &ZEROS[..10]].concat());
        // Empty deflate blocks: endless compressed data that decompresses to nothing.
        while stream.write_all(&[0, 0, 0, 0xff, 0xff].repeat(10_000)).is_ok() {}
    });
    let egress = Network::default().egress(EgressSettings::default(), bounds());
    assert_eq!(
        text(&egress, &format!("http://{endless}/")).await,
        Err(BodyError::TooLarge.to_string()),
        "the compressed size counts too"
    );

    let cut = compressed(ZEROS.len() / 2);
    let egress = Network::default().egress(EgressSettings::default(), bounds());
    let error = text(&egress, &format!("http://{cut}/")).await.unwrap_err();
    assert!(error.starts_with(&format!("{cut}: ")), "{error}");
}

#[tokio::test]
async fn accept_encoding_header_disables_decompression() {
    let url = format!("http://{}/", compressed(ZEROS.len()));
    let egress = Network::default().egress(EgressSettings::default(), bounds());
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get(url).header("accept-encoding", "gzip").body(body).unwrap();
    let response = egress.send(request, RequestTimeouts::default()).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), ZEROS);
}
