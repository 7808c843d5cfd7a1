//! Hosts with many sources: pages of the list, responses that concurrent requests share, and idle CPU time.

use crate::served::{Answer, Served, token};
use e2e::{TestHost, wait_until};
use std::{
    fmt::Write,
    thread,
    time::{Duration, Instant},
};

/// Starts a host with the sources `s0000`, `s0001`, …
fn served(count: usize, rest: &str) -> Served {
    let t = TestHost::new();
    t.write("app.in", "one");
    let mut config = String::from("[state]\npath = \"state\"\n");
    for number in 0..count {
        let name = format!("s{number:04}");
        writeln!(
            config,
            "[[source]]\nname = \"{name}\"\nplugin = \"file\"\nconfig.path = \"app.in\""
        )
        .unwrap();
    }
    let served = Served::start(t, &(config + rest), &["--listen", "127.0.0.1:0"]);
    served.wait_for("/readyz", 200);
    served
}

fn names(page: &Answer) -> Vec<String> {
    let page = page.json();
    let sources = page["sources"].as_array().unwrap().iter();
    sources.map(|source| source["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn list_is_divided_into_pages() {
    let group = "[[group]]\nname = \"both\"\nsources = [\"s0000\", \"s0001\"]\n\
                 [[group.sink]]\ntype = \"exec\"\ncommand = [\"true\"]\n";
    let served = served(5, group);
    let first = served.get("/v1/sources?limit=2");
    assert_eq!(names(&first), ["s0000", "s0001"]);
    assert_eq!(first.json()["next"], "s0001");
    assert_eq!(first.header("link"), "<?limit=2&after=s0001>; rel=\"next\"");
    assert_eq!(first.json()["groups"].as_array().unwrap().len(), 1);
    let second = served.get("/v1/sources?limit=2&after=s0001");
    assert_eq!(names(&second), ["s0002", "s0003"]);
    assert_eq!(
        second.json()["groups"].as_array().unwrap().len(),
        0,
        "groups are only on the first page"
    );
    let last = served.get("/v1/sources?limit=2&after=s0003");
    assert_eq!((names(&last), last.header("link")), (vec!["s0004".to_owned()], ""));
    assert!(last.json()["next"].is_null());
    assert_eq!(
        names(&served.get("/v1/sources?after=s00025")).len(),
        2,
        "`after` may name an unknown source"
    );
    for invalid in ["limit=0", "limit=10001", "limit=x", "limit=-1", "what=1"] {
        served.get(&format!("/v1/sources?{invalid}")).is_problem(400, "");
    }
}

#[test]
fn pages_contain_only_accessible_sources() {
    let (bearer, reads) =
        token(&["t", "--source", "s0004", "--source", "s0001", "--source", "s0003"]);
    let served = served(6, &reads);
    let page = |query: &str| {
        served.ask("GET", &format!("/v1/sources?limit=2{query}"), &[("authorization", &bearer)])
    };
    assert_eq!(names(&page("")), ["s0001", "s0003"]);
    assert_eq!(names(&page("&after=s0003")), ["s0004"]);
}

/// `host status` requests all pages of the list.
#[test]
fn status_lists_sources_of_all_pages() {
    let served = served(1_100, "");
    assert_eq!(names(&served.get("/v1/sources")).len(), 1_000);
    let status = served.t.finish(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let sources = status["sources"].as_array().unwrap();
    assert_eq!((sources.len(), &sources[1_099]["name"]), (1_100, &"s1099".into()));
}

/// Concurrent requests for the list of sources may share one response. It is never older than any of these requests.
#[test]
fn shared_list_is_never_older_than_its_request() {
    let served = served(100, "");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    ureq::get(format!("{}/v1/sources", served.base)).call().unwrap();
                }
            });
        }
        for revision in 2..20 {
            served.t.replace("app.in", revision.to_string());
            wait_until("the value", || {
                served.get("/v1/sources/s0050").json()["revision"].as_u64().unwrap() >= revision
            });
            let list = served.get("/v1/sources").json();
            assert!(list["sources"][50]["revision"].as_u64().unwrap() >= revision);
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// While no value changes, a host with 3,000 sources and a client of the event stream uses almost no CPU time.
#[test]
fn idle_host_with_many_sources_uses_no_cpu_time() {
    let served = served(3_000, "");
    let _events = served.open("/v1/events", &[]);
    let cpu_time = || cpu_time_of(served.host.id());
    wait_until("the end of the startup work", || {
        let before = cpu_time();
        thread::sleep(Duration::from_millis(500));
        cpu_time() - before < Duration::from_millis(30)
    });
    // The sleep is the measured period, not a wait for a condition.
    let (before, start) = (cpu_time(), Instant::now());
    thread::sleep(Duration::from_secs(4));
    let ratio = (cpu_time() - before).as_secs_f64() / start.elapsed().as_secs_f64();
    assert!(ratio < 0.02, "{:.1} % of a processor", ratio * 100.0);
}

/// Returns the CPU time of a running process.
fn cpu_time_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The command name, in parentheses, may contain spaces. The fields after it begin with the state.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u32 = fields[11..13].iter().map(|field| field.parse::<u32>().unwrap()).sum();
    Duration::from_millis(10) * ticks
}
