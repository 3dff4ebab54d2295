use super::*;

fn guard(limits: Limits) -> Guard {
    Guard::new(limits, &prometheus::Registry::new(), CancellationToken::new()).unwrap()
}

fn user(name: &str) -> Identity {
    Identity::new(name, [])
}

fn admin() -> Identity {
    Identity::new("root", [crate::auth::ADMINS.to_owned()])
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_held_for_each_user_and_says_when_to_come_back() {
    let guard = guard(Limits { requests_per_second: 2, requests_burst: 5, ..Limits::default() });
    let eve = user("eve");
    for _ in 0..5 {
        guard.enter(&eve, None).await.unwrap();
    }
    let refused = guard.enter(&eve, None).await.unwrap_err();
    assert_eq!((refused.code(), &refused.status()["details"]["retryAfterSeconds"]), (429, &1.into()));
    guard.enter(&user("bob"), None).await.expect("another user's rate is another's");
    for _ in 0..100 {
        guard.enter(&admin(), None).await.expect("administrators have no rate");
    }
    tokio::time::advance(Duration::from_millis(499)).await;
    guard.enter(&eve, None).await.unwrap_err();
    tokio::time::advance(Duration::from_millis(2)).await;
    guard.enter(&eve, None).await.expect("half a second makes one token");
    tokio::time::advance(Duration::from_hours(1)).await;
    let mut let_in = 0;
    while guard.enter(&eve, None).await.is_ok() {
        let_in += 1;
    }
    assert_eq!(let_in, 5, "an hour of silence makes one burst and no more");
    assert_eq!(guard.metrics.rejected.with_label_values(&["rate"]).get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_slow_rate_says_to_stay_away_for_longer() {
    let guard = guard(Limits { requests_per_second: 1, requests_burst: 1, ..Limits::default() });
    guard.enter(&user("eve"), None).await.unwrap();
    let refused = guard.enter(&user("eve"), None).await.unwrap_err();
    assert_eq!(refused.status()["details"]["retryAfterSeconds"], 1);
}

#[tokio::test(start_paused = true)]
async fn places_are_waited_for_and_not_for_ever() {
    let guard = Arc::new(guard(Limits { requests_per_user: 2, requests_burst: 1000, ..Limits::default() }));
    let eve = user("eve");
    let first = guard.enter(&eve, None).await.unwrap();
    let second = guard.enter(&eve, None).await.unwrap();
    let late = guard.enter(&eve, None).await.unwrap_err();
    assert_eq!(late.code(), 429, "nothing became free in time");
    drop(guard.enter(&user("bob"), None).await.expect("others have places of their own"));
    let waiting = {
        let (guard, eve) = (Arc::clone(&guard), eve.clone());
        crate::task::spawn("waits", async move { guard.enter(&eve, None).await.is_ok() })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(first);
    assert!(waiting.await.unwrap());
    // No more may wait than a connection has streams for.
    let crowd = (0..20).map(|_| guard.enter(&eve, None));
    let held: Vec<_> = futures::future::join_all(crowd).await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(held.len(), 1, "one place was free and nobody left");
    assert!(guard.user(&eve, None).place(0, PLACE_WAIT).await.is_none(), "nobody may wait");
    drop((second, held));
    guard.enter(&eve, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_house_still_has_room_for_administrators() {
    let guard = guard(Limits { requests_in_flight: 16, requests_per_user: 100, ..Limits::default() });
    let mut held = Vec::new();
    for _ in 0..14 {
        held.push(guard.enter(&user("eve"), None).await.unwrap());
    }
    assert_eq!(guard.enter(&user("bob"), None).await.unwrap_err().code(), 429);
    for _ in 0..2 {
        held.push(guard.enter(&admin(), None).await.expect("the reserve"));
    }
    assert_eq!(guard.enter(&admin(), None).await.unwrap_err().code(), 429, "the total holds for everybody");
    held.clear();
    guard.enter(&user("bob"), None).await.unwrap();
}

#[tokio::test]
async fn watches_are_counted_for_each_user_and_in_all() {
    let guard = guard(Limits { watches_per_user: 2, watches: 5, ..Limits::default() });
    let (eve, bob) = (user("eve"), user("bob"));
    let mut held = vec![guard.watch(&eve).unwrap(), guard.watch(&eve).unwrap()];
    assert_eq!(guard.watch(&eve).unwrap_err().code(), 429);
    held.push(guard.watch(&bob).unwrap());
    held.push(guard.watch(&admin()).unwrap());
    held.push(guard.watch(&admin()).expect("administrators are counted in all only"));
    assert_eq!(guard.watch(&admin()).unwrap_err().code(), 429);
    drop(held);
    guard.watch(&eve).unwrap();
}

#[tokio::test(start_paused = true)]
async fn strangers_are_told_apart_by_network_and_the_quiet_are_forgotten() {
    let guard = guard(Limits { requests_burst: 1, requests_per_second: 1, ..Limits::default() });
    let nobody = Identity::anonymous();
    let at = |text: &str| Some(text.parse().unwrap());
    guard.enter(&nobody, at("192.0.2.1")).await.unwrap();
    guard.enter(&nobody, at("192.0.2.2")).await.expect("another address");
    guard.enter(&nobody, at("2001:db8::1")).await.unwrap();
    guard.enter(&nobody, at("2001:db8::ffff")).await.expect_err("the same network: one client has all its addresses");
    for number in 0..20_000_u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
        drop(guard.enter(&nobody, Some(address.into())).await);
    }
    assert!(guard.users.count() <= 10_001, "{}", guard.users.count());
    tokio::time::advance(Duration::from_secs(5)).await;
    guard.enter(&user("eve"), None).await.expect("a new user after the flood");
    assert_eq!(guard.users.count(), 1, "nobody of the flood is remembered");
}

#[test]
fn probes_are_let_in_whatever_happens() {
    let probes = ["/livez", "/readyz/ping", "//healthz", "/readyz/"];
    assert!(probes.iter().all(|path| is_probe(&Method::GET, path)));
    assert!(!probes.iter().any(|path| is_probe(&Method::POST, path)), "whoever writes asks for no health");
    assert!(!["/", "/version", "/api/v1/livez", "/livezz"].iter().any(|path| is_probe(&Method::GET, path)));
}
