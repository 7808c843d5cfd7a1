//! Tests of the way out: who is dialled, and how long everything may take.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use super::*;
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
/// Long enough never to be reached unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers each question with the next of these answers, and with the last one from then on.
#[derive(Debug)]
struct Scripted {
    answers: Vec<Vec<SocketAddr>>,
    asked: AtomicUsize,
}

impl Resolve for Scripted {
    fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.answers[number.min(self.answers.len() - 1)].clone())
    }
}

/// Does not answer until it is let go.
#[derive(Debug)]
struct Hanging {
    asked: Mutex<Sender<String>>,
    go: Mutex<Receiver<()>>,
}

impl Resolve for Hanging {
    fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        if host == "prompt.example" {
            return Err(io::Error::other("there is no such name"));
        }
        self.asked.lock().unwrap().send(host.to_owned()).unwrap();
        let _ = self.go.lock().unwrap().recv();
        Err(io::Error::other("let go"))
    }
}

fn bounds() -> Bounds {
    Bounds {
        connections: 4,
        connect: PATIENCE,
        idle: PATIENCE,
        total: PATIENCE,
        body: 1 << 20,
        head: 64 << 10,
    }
}

fn scripted(answers: &[&[SocketAddr]]) -> (Arc<Scripted>, Network) {
    let answers = answers.iter().map(|answer| answer.to_vec()).collect();
    let resolver = Arc::new(Scripted { answers, asked: AtomicUsize::new(0) });
    (Arc::clone(&resolver), Network::resolving(resolver))
}

fn allowing(range: &str) -> Reach {
    let mut reach = Reach::default();
    reach.addresses.allow(range.parse().unwrap());
    reach
}

fn loopback() -> Reach {
    allowing("127.0.0.0/8")
}

fn to(host: &str, port: u16) -> HostPort {
    HostPort::new(host, port).unwrap()
}

/// A server: what it does with each connection. It is told of how many there have been.
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

/// Answers every request on a connection with these bytes.
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

/// Takes what comes, says this, and then nothing more.
fn silent_after(said: &'static str) -> impl Fn(TcpStream) + Send + Sync + 'static {
    move |mut stream| {
        let _ = stream.write_all(said.as_bytes());
        let _ = io::copy(&mut stream, &mut io::sink());
    }
}

/// The same when it has been asked.
fn stalling_after(said: &'static str) -> impl Fn(TcpStream) + Send + Sync + 'static {
    let silent = silent_after(said);
    move |mut stream| {
        if stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {
            silent(stream);
        }
    }
}

async fn get(line: &Line, url: &str, times: Times) -> Result<Response<Body>, RequestError> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    line.send(Request::get(url).body(body).unwrap(), times).await
}

async fn failure(line: &Line, url: &str, times: Times) -> String {
    match get(line, url, times).await {
        Ok(_) => panic!("{url} has answered"),
        Err(error) => error.to_string(),
    }
}

async fn text(line: &Line, url: &str) -> Result<String, String> {
    let response = get(line, url, Times::default()).await.map_err(|error| error.to_string())?;
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(body.to_bytes().into()).unwrap())
}

#[tokio::test]
async fn the_checked_address_is_dialled_whatever_the_name_stands_for_a_moment_later() {
    let (good, _) = serve(silent_after("good"));
    let (evil, visits) = serve(silent_after("evil"));
    // The first answer is allowed, the others are not.
    let evil = SocketAddr::new("127.0.0.2".parse().unwrap(), evil.port());
    let (resolver, network) = scripted(&[&[good], &[evil]]);
    let line = network.line(allowing("127.0.0.1"), bounds());
    let mut connection = line.dial(&to("rebinding.example", 80), false, PATIENCE).await.unwrap();
    let mut said = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut connection.stream, &mut said).await.unwrap();
    assert_eq!(&said, b"good");
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 1, "asked once for a dial");
    let second = line.dial(&to("rebinding.example", 80), false, PATIENCE).await;
    assert!(matches!(second, Err(DialError::Refused(_))), "the second answer is checked as well");
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_with_one_refused_address_is_refused_and_nobody_is_dialled() {
    let (server, visits) = serve(silent_after(""));
    let private = "10.0.0.7:80".parse().unwrap();
    let (_, network) = scripted(&[&[server, private]]);
    let line = network.line(loopback(), bounds());
    let refused = "connection to `mixed.example:80` denied: the name resolves to 10.0.0.7, a private \
                   address; `--allow-address 10.0.0.7` would allow it";
    match line.dial(&to("mixed.example", 80), false, PATIENCE).await {
        Err(DialError::Refused(error)) => assert_eq!(error.to_string(), refused),
        other => panic!("{:?}", other.err()),
    }
    let times = Times::default();
    assert_eq!(failure(&line, "http://mixed.example/", times).await, refused);
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_address_that_does_not_answer_does_not_hold_up_the_next_one() {
    let (server, _) = serve(silent_after(""));
    // Nobody listens at the first; at the second, nobody is (TEST-NET-1).
    let (refusing, dead) = ("127.0.0.1:1".parse().unwrap(), "192.0.2.1:80".parse().unwrap());
    let mut reach = loopback();
    reach.addresses.allow("192.0.2.1".parse().unwrap());
    let (_, network) = scripted(&[&[refusing, dead, server]]);
    let line = network.line(reach, bounds());
    let start = Instant::now();
    line.dial(&to("several.example", 80), false, PATIENCE).await.unwrap();
    assert!(start.elapsed() < 5 * SECOND);
}

#[tokio::test]
async fn the_failure_names_every_address() {
    let dead: [SocketAddr; 2] = ["127.0.0.1:1".parse().unwrap(), "127.0.0.2:1".parse().unwrap()];
    let (_, network) = scripted(&[&dead]);
    let line = network.line(loopback(), bounds());
    let failed = line.dial(&to("down.example", 1), false, PATIENCE).await.err().unwrap();
    assert_eq!(
        failed.to_string(),
        "down.example:1: none of its addresses answers: 127.0.0.1: Connection refused (os error 111), \
         127.0.0.2: Connection refused (os error 111)"
    );
}

#[tokio::test]
async fn names_whose_servers_hang_take_two_threads_of_their_source_and_nothing_of_others() {
    let ((asked, questions), (go, wait)) = (channel(), channel());
    let resolver = Hanging { asked: Mutex::new(asked), go: Mutex::new(wait) };
    let network = Network::resolving(Arc::new(resolver));
    let line = network.line(Reach::default(), bounds());
    let moment = Duration::from_millis(50);
    for number in 0..4 {
        let to = to(&format!("hangs-{number}.example"), 80);
        let failed = line.dial(&to, false, moment).await.err().unwrap().to_string();
        let expected = "timed out while resolving the name (the plugin waits for 50ms)";
        assert_eq!(failed, format!("{to}: {expected}"));
    }
    let names: Vec<_> = questions.try_iter().collect();
    assert_eq!(names, ["hangs-0.example", "hangs-1.example"], "the others wait for their turn");
    let other = network.line(Reach::default(), bounds());
    let failed = other.dial(&to("prompt.example", 80), false, PATIENCE).await.err().unwrap();
    assert_eq!(failed.to_string(), "prompt.example:80: there is no such name");
    drop(go);
}

#[tokio::test]
async fn whoever_waits_learns_for_what_and_by_whose_decision() {
    let (server, _) = serve(silent_after(""));
    let address = server.to_string();
    let moment = Duration::from_millis(500);
    let quick = Bounds { connect: moment, ..bounds() };
    let line = Network::default().line(Reach::default(), quick);
    let limit = "timed out while agreeing on TLS (limit `connect-timeout` is 500ms); \
                 does the server speak TLS there?";
    let stalled = line.dial(&to("127.0.0.1", server.port()), true, PATIENCE).await;
    assert_eq!(stalled.err().unwrap().to_string(), format!("{address}: {limit}"));
    let url = format!("https://{address}/");
    assert_eq!(failure(&line, &url, Times::default()).await, format!("{address}: {limit}"));

    let line = Network::default().line(Reach::default(), bounds());
    let asked = Times { connect: Some(moment), first_byte: Some(moment), between_bytes: None };
    let over = "timed out while agreeing on TLS (the plugin waits for 500ms); does the \
                server speak TLS there?";
    assert_eq!(failure(&line, &url, asked).await, format!("{address}: {over}"));
    let silent = get(&line, &format!("http://{address}/"), asked).await;
    assert!(matches!(silent, Err(RequestError::TimedOut)), "the plugin's own time is over");

    let line = Network::default().line(Reach::default(), Bounds { total: moment, ..bounds() });
    let over = "timed out while waiting for the response (limit `http-total` is 500ms)";
    let url = format!("http://{address}/");
    assert_eq!(failure(&line, &url, Times::default()).await, format!("{address}: {over}"));
}

#[tokio::test]
async fn a_body_is_bounded_in_time_and_in_length() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this";
    let (server, _) = serve(stalling_after(head));
    let (address, url) = (server.to_string(), format!("http://{server}/"));
    let moment = Duration::from_millis(50);
    let line = Network::default().line(Reach::default(), bounds());
    let times = Times { between_bytes: Some(moment), ..Times::default() };
    let body = get(&line, &url, times).await.unwrap().into_body();
    let over = "timed out while receiving the body (the plugin waits for 50ms)";
    assert_eq!(body.collect().await.err().unwrap().to_string(), format!("{address}: {over}"));

    let line = Network::default().line(Reach::default(), Bounds { total: 4 * moment, ..bounds() });
    let over = "timed out while receiving the body (limit `http-total` is 200ms)";
    assert_eq!(text(&line, &url).await, Err(format!("{address}: {over}")));

    let line = Network::default().line(Reach::default(), Bounds { body: 8, ..bounds() });
    assert_eq!(text(&line, &url).await, Err(BodyError::TooLarge.to_string()));
}

#[tokio::test]
async fn connections_and_requests_together_have_a_limit_and_count_until_they_are_dropped() {
    let (server, _) = serve(stalling_after("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nonly"));
    let (to, url) = (to("127.0.0.1", server.port()), format!("http://{server}/"));
    let line = Network::default().line(Reach::default(), Bounds { connections: 2, ..bounds() });
    let connection = line.dial(&to, false, PATIENCE).await.unwrap();
    let response = get(&line, &url, Times::default()).await.unwrap();
    let over = "too many connections and requests at once (limit `connections` is 2)";
    let third = line.dial(&to, false, PATIENCE).await;
    assert_eq!(third.err().unwrap().to_string(), format!("{to}: {over}"));
    assert_eq!(failure(&line, &url, Times::default()).await, format!("{to}: {over}"));
    drop(response);
    assert!(line.dial(&to, false, PATIENCE).await.is_ok(), "the response is gone");
    drop(connection);
    assert!(get(&line, &url, Times::default()).await.is_ok(), "the connections are gone");
}

#[test]
fn what_arrives_is_heard_of_while_the_thread_computes_that_opened_the_connection() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (server, _) = serve(answering("pong"));
    let network = Network::default();
    let line = network.line(Reach::default(), bounds());
    let to = to("127.0.0.1", server.port());
    // Nobody looks after this one from then on.
    let there = runtime();
    let mut connection = there.block_on(line.dial(&to, false, PATIENCE)).unwrap();
    let mut answer = [0; 4];
    let heard = runtime().block_on(async {
        connection.stream.write_all(b"ping").await.unwrap();
        timeout(PATIENCE, connection.stream.read_exact(&mut answer)).await
    });
    assert!(heard.is_ok_and(|read| read.is_ok()));
    assert_eq!(&answer, b"pong");
}

#[tokio::test]
async fn a_connection_is_used_again_by_its_source_and_by_no_other() {
    let (server, connections) = serve(answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
    let url = format!("http://{server}/");
    let network = Network::default();
    let (one, other) =
        (network.line(Reach::default(), bounds()), network.line(Reach::default(), bounds()));
    for _ in 0..50 {
        assert_eq!(text(&one, &url).await, Ok("ok".into()));
    }
    // Who comes very soon may be before the connection is given back.
    let made = connections.load(Ordering::SeqCst);
    assert!(made < 25, "{made} connections for 50 requests");
    assert_eq!(text(&other, &url).await, Ok("ok".into()));
    assert_eq!(connections.load(Ordering::SeqCst), made + 1);
}

#[tokio::test]
async fn the_head_of_a_response_has_an_end() {
    let (server, _) = serve(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"x-again: and again\r\n").is_ok() {}
    });
    let line = Network::default().line(Reach::default(), bounds());
    let why = failure(&line, &format!("http://{server}/"), Times::default()).await;
    assert_eq!(
        why,
        format!(
            "{server}: the head of the response is too large, has more than 100 fields, or a length that no body can have (limit `http-head` is 65536 bytes)"
        )
    );
}

/// 64 KiB of nothing, compressed.
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
async fn what_is_compressed_is_counted_as_what_comes_out() {
    let url = format!("http://{}/", compressed(ZEROS.len()));
    let line = Network::default().line(Reach::default(), bounds());
    let response = get(&line, &url, Times::default()).await.unwrap();
    assert!(!response.headers().contains_key("content-encoding"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!((body.len(), body.iter().all(|byte| *byte == 0)), (64 << 10, true));

    let line = Network::default().line(Reach::default(), Bounds { body: 32 << 10, ..bounds() });
    assert_eq!(text(&line, &url).await, Err(BodyError::TooLarge.to_string()));

    let (endless, _) = serve(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n";
        let _ = stream.write_all(&[head.as_bytes(), &ZEROS[..10]].concat());
        // Blocks without content, one after the other.
        while stream.write_all(&[0, 0, 0, 0xff, 0xff].repeat(10_000)).is_ok() {}
    });
    let line = Network::default().line(Reach::default(), bounds());
    assert_eq!(
        text(&line, &format!("http://{endless}/")).await,
        Err(BodyError::TooLarge.to_string()),
        "although nothing comes out"
    );

    let cut = compressed(ZEROS.len() / 2);
    let line = Network::default().line(Reach::default(), bounds());
    let why = text(&line, &format!("http://{cut}/")).await.unwrap_err();
    assert!(why.starts_with(&format!("{cut}: ")), "{why}");
}

#[tokio::test]
async fn whoever_says_how_a_body_may_be_encoded_gets_it_as_it_is() {
    let url = format!("http://{}/", compressed(ZEROS.len()));
    let line = Network::default().line(Reach::default(), bounds());
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get(url).header("accept-encoding", "gzip").body(body).unwrap();
    let response = line.send(request, Times::default()).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), ZEROS);
}
