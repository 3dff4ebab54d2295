//! The real Nginx, led by the router: no request fails while routes change, and a killed Nginx comes back.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use node_agent::machine::{Router as _, Routes, Site};
use node_agent::nginx::{NginxRouter, find_binary};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// A folder, a port, and an Nginx that ends with the test.
struct Bench {
    folder: tempfile::TempDir,
    port: u16,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), port: e2e::free_port() }
    }

    fn router(&self) -> NginxRouter {
        let binary = find_binary(None).expect("nginx is installed: scripts/setup");
        NginxRouter::new(binary, self.folder.path().join("nginx"))
    }

    fn routes(&self, sites: &[(&str, &[&str], &[SocketAddr])]) -> Routes {
        let site = |(uid, hosts, backends): &(&str, &[&str], &[SocketAddr])| {
            let site = Site {
                namespace: "acme".to_owned(),
                application: format!("app-{uid}"),
                hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
                backends: backends.to_vec(),
            };
            ((*uid).to_owned(), site)
        };
        Routes { http_port: self.port, https_port: 0, sites: sites.iter().map(site).collect::<BTreeMap<_, _>>() }
    }

    fn pid(&self) -> Option<u32> {
        let pid = std::fs::read_to_string(self.folder.path().join("nginx/nginx.pid")).ok()?.trim().parse().ok()?;
        Path::new(&format!("/proc/{pid}")).is_dir().then_some(pid)
    }

    async fn get(&self, host: &str) -> String {
        self.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
    }

    async fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn error_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("nginx/error.log")).unwrap_or_default()
    }
}

/// An application: answers every request with its name and the head that it got. Counts its requests.
struct Backend {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    running: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Backend {
    async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, running) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let mut tasks = JoinSet::new();
        let (counter, alive) = (Arc::clone(&requests), Arc::clone(&running));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, name, Arc::clone(&counter), Arc::clone(&alive)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, requests, running, _tasks: tasks }
    }

    /// Ends it as a killed container ends: nobody listens, open connections are closed.
    fn kill(self) {
        self.running.store(false, Ordering::SeqCst);
    }
}

async fn serve(mut stream: TcpStream, name: &str, requests: Arc<AtomicUsize>, running: Arc<AtomicBool>) {
    let mut pending = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length) = stream.read(&mut piece).await {
        if length == 0 || !running.load(Ordering::SeqCst) {
            return;
        }
        pending.extend_from_slice(&piece[..length]);
        while let Some(end) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = pending.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head);
            requests.fetch_add(1, Ordering::SeqCst);
            if head.to_ascii_lowercase().contains("upgrade: websocket") {
                let answer =
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello";
                stream.write_all(answer.as_bytes()).await.unwrap();
                continue;
            }
            let body = format!("{name}\n{head}");
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within 30 s");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_the_instances_of_their_host() {
    let bench = Bench::new();
    let router = bench.router();
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let routes =
        bench.routes(&[("a", &["a.example.com"], &[one.address, two.address]), ("b", &["b.example.com"], &[])]);
    assert!(router.apply(&routes).await.unwrap().failed.is_empty(), "{}", bench.error_log());

    let mut seen = [0, 0];
    for _ in 0..20 {
        let answer = bench.get("A.example.com:8443").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}\n{}", bench.error_log());
        seen[usize::from(answer.contains("\r\n\r\ntwo"))] += 1;
        assert!(answer.contains("Host: a.example.com:8443\r\n"), "{answer}");
    }
    assert!(seen[0] >= 5 && seen[1] >= 5, "both get requests: {seen:?}");
    assert!(one.requests.load(Ordering::SeqCst) >= 5);

    let answer = bench.get("unknown.example.com").await;
    assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("nginx/"), "{answer}");
    let answer = bench.get("b.example.com").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Retry-After: 5"), "{answer}");

    let forged = "GET / HTTP/1.1\r\nHost: a.example.com\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
                  X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nConnection: close\r\n\r\n";
    let answer = bench.send(forged).await;
    assert!(
        answer.contains("X-Forwarded-For: 127.0.0.1") && answer.contains("X-Forwarded-Proto: http\r\n"),
        "{answer}"
    );
    assert!(!answer.contains("6.6.6.6"), "{answer}");

    let upgrade = "GET / HTTP/1.1\r\nHost: a.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut stream = TcpStream::connect(("127.0.0.1", bench.port)).await.unwrap();
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        assert_ne!(timeout(Duration::from_secs(20), stream.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    drop(stream);

    let log = eventually("the access log", async || {
        let log = std::fs::read_to_string(bench.folder.path().join("nginx/access.log")).ok()?;
        (log.contains(r#""application":"acme/app-a""#) && log.ends_with('\n')).then_some(log)
    })
    .await;
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    router.stop().await;
    assert_eq!(bench.pid(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_goes_away_costs_no_request() {
    let bench = Bench::new();
    let router = bench.router();
    let (stays, goes) = (Backend::start("stays").await, Backend::start("goes").await);
    router.apply(&bench.routes(&[("a", &["a.example.com"], &[stays.address, goes.address])])).await.unwrap();
    for _ in 0..10 {
        assert!(bench.get("a.example.com").await.starts_with("HTTP/1.1 200"));
    }
    goes.kill();
    for _ in 0..50 {
        let answer = bench.get("a.example.com").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("stays"), "{answer}");
    }
    router.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_changes_under_load_fail_no_request() {
    let bench = Bench::new();
    let router = bench.router();
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    let sites = |change: usize| {
        let address = if change.is_multiple_of(2) { old.address } else { new.address };
        bench.routes(&[
            ("a", &["a.example.com"], &[address]),
            ("b", &[if change.is_multiple_of(3) { "b.example.com" } else { "c.example.com" }], &[]),
        ])
    };
    router.apply(&sites(0)).await.unwrap();

    let load = tokio::process::Command::new("wrk")
        .args(["-t1", "-c32", "-d120s", "--timeout", "30s", "--latency", "-H", "Host: a.example.com"])
        .arg(format!("http://127.0.0.1:{}/", bench.port))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("wrk is installed: scripts/setup");
    let mut slowest = Duration::ZERO;
    for change in 1..=200 {
        let before = Instant::now();
        router.apply(&sites(change)).await.unwrap();
        slowest = slowest.max(before.elapsed());
        // Live means live: the very next request meets the new instance.
        let expected = if change % 2 == 0 { "old" } else { "new" };
        let answer = bench.get("a.example.com").await;
        assert!(answer.contains(&format!("\r\n\r\n{expected}\n")), "change {change}: {answer}");
        sleep(Duration::from_millis(20)).await;
    }
    // It says what it saw when it is interrupted; by itself it would go on for longer than the changes take.
    let pid = load.id().expect("the load outlasts the changes").to_string();
    let interrupted = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    assert!(interrupted.success());
    let said = String::from_utf8(load.wait_with_output().await.unwrap().stdout).unwrap();
    println!("slowest change {slowest:?}\n{said}");
    assert!(said.contains("requests in"), "{said}");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}\n{}", bench.error_log());
    router.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nginx_is_started_again_and_serves_what_it_served() {
    let bench = Bench::new();
    let router = bench.router();
    let backend = Backend::start("one").await;
    router.apply(&bench.routes(&[("a", &["a.example.com"], &[backend.address])])).await.unwrap();
    let first = bench.pid().unwrap();
    // The master alone: its workers live on and hold the port.
    let killed = tokio::process::Command::new("kill").args(["-KILL", &first.to_string()]).status().await.unwrap();
    assert!(killed.success());
    eventually("a new master process", async || bench.pid().filter(|pid| *pid != first)).await;
    eventually("a healthy state", async || router.state().await.healthy.then_some(())).await;
    let answer = bench.get("a.example.com").await;
    assert!(answer.contains("\r\n\r\none\n"), "{answer}");
    router.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_agent_takes_over_the_running_nginx() {
    let bench = Bench::new();
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let router = bench.router();
    router
        .apply(&bench.routes(&[("a", &["a.example.com"], &[one.address]), ("z", &["z.example.com"], &[])]))
        .await
        .unwrap();
    let pid = bench.pid().unwrap();
    drop(router);
    assert!(bench.get("a.example.com").await.contains("\r\n\r\none\n"), "traffic goes on without an agent");

    let router = bench.router();
    router.apply(&bench.routes(&[("a", &["a.example.com"], &[two.address])])).await.unwrap();
    assert_eq!(bench.pid(), Some(pid), "no new process");
    assert!(bench.get("a.example.com").await.contains("\r\n\r\ntwo\n"));
    assert!(bench.get("z.example.com").await.starts_with("HTTP/1.1 404"), "what the agent before knew is gone");

    // Another port is another configuration: a reload, with the table kept.
    let moved = Bench { port: Bench::new().port, ..bench };
    router.apply(&moved.routes(&[("a", &["a.example.com"], &[two.address])])).await.unwrap();
    assert_eq!(moved.pid(), Some(pid));
    assert!(moved.get("a.example.com").await.contains("\r\n\r\ntwo\n"));
    router.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_said_and_changes_nothing() {
    let bench = Bench::new();
    let backend = Backend::start("one").await;
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let router = bench.router();
    let sites: &[(&str, &[&str], &[SocketAddr])] = &[("a", &["a.example.com"], &[backend.address])];
    router.apply(&bench.routes(sites)).await.unwrap();
    let wrong = Routes { http_port: taken.local_addr().unwrap().port(), ..bench.routes(sites) };
    let problem = router.apply(&wrong).await.unwrap_err();
    assert!(problem.0.contains("Address already in use"), "{problem}");
    assert!(bench.get("a.example.com").await.contains("\r\n\r\none\n"));
    router.apply(&bench.routes(sites)).await.unwrap();
    router.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_hosts_change_fast() {
    let bench = Bench::new();
    let router = bench.router();
    let backend = Backend::start("one").await;
    let mut routes = bench.routes(&[("a", &["a.example.com"], &[backend.address])]);
    for number in 0..10_000 {
        let site = Site {
            namespace: "acme".to_owned(),
            application: format!("app-{number}"),
            hosts: vec![format!("host-{number}.example.com").parse().unwrap()],
            backends: vec![backend.address],
        };
        routes.sites.insert(format!("00000000-0000-4000-8000-{number:012}"), site);
    }
    let begun = Instant::now();
    router.apply(&routes).await.unwrap();
    println!("10,000 hosts at once: {:?}", begun.elapsed());
    let mut times = Vec::new();
    for change in 0..20 {
        routes.sites.get_mut("a").unwrap().backends = if change % 2 == 0 { Vec::new() } else { vec![backend.address] };
        let begun = Instant::now();
        router.apply(&routes).await.unwrap();
        times.push(begun.elapsed());
        let expected = if change % 2 == 0 { "HTTP/1.1 503" } else { "HTTP/1.1 200" };
        assert!(bench.get("a.example.com").await.starts_with(expected));
    }
    times.sort();
    println!("one of 10,000 changes: median {:?}, worst {:?}", times[10], times[19]);
    assert!(bench.get("host-9999.example.com").await.starts_with("HTTP/1.1 200"));
    router.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nginx_the_router_says_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let router = NginxRouter::new(PathBuf::from("/nonexistent/nginx"), folder.path().join("nginx"));
    let routes = Routes { http_port: 8080, https_port: 0, sites: BTreeMap::new() };
    let problem = router.apply(&routes).await.unwrap_err();
    assert!(problem.0.contains("/nonexistent/nginx"), "{problem}");
    assert_eq!(router.version().await, None);
}
