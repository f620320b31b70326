//! Several servers that share hash slots: three proxies, two redis-servers, and ones
//! that do not agree.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{TryStreamExt, future::join_all, stream};
use scatterhoard_client::{
    Client, Command, Error, ErrorCode, Keep, Options, Reply, Resume, SetOptions, Ttl,
};

use tokio::sync::Notify;

use crate::servers::{Fake, Peer, Server, all_at, free_address, member};

/// Three proxies; slots 0 to 5460, 5461 to 10922, and the others.
pub(crate) fn proxies() -> Vec<Server> {
    let addresses = [(); 3].map(|()| free_address().to_string());
    let slots = ["0-5460", "5461-10922", "10923-16383"];
    let members = addresses.iter().zip(slots).map(|(a, s)| format!("{a} {s}"));
    let members = members.collect::<Vec<_>>().join(",");
    let start = |address: &String| {
        let mut arguments = vec!["--listen", address, "--cluster", &members];
        arguments.extend(["--data-parity", "2+1", "--nodes", "3"]);
        Server::scatterhoard(&arguments)
    };
    addresses.iter().map(start).collect()
}

/// Two redis-servers; slots 0 to 8191, and the others.
async fn redis() -> Vec<Server> {
    let start = || {
        let bus = free_address().port().to_string();
        let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        (Server::redis(&arguments), bus)
    };
    let ((first, _), (second, bus)) = (start(), start());
    run(&first, "CLUSTER ADDSLOTSRANGE 0 8191").await;
    run(&second, "CLUSTER ADDSLOTSRANGE 8192 16383").await;
    let port = second.address.port();
    run(&first, &format!("CLUSTER MEET 127.0.0.1 {port} {bus}")).await;
    for server in [&first, &second] {
        let end = Instant::now() + Duration::from_secs(40);
        while !format!("{:?}", run(server, "CLUSTER INFO").await).contains("cluster_state:ok") {
            assert!(Instant::now() < end, "the cluster does not come together");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    vec![first, second]
}

/// What one server, and no other, answers to a command without keys.
async fn run(server: &Server, line: &str) -> Reply {
    let mut words = line.split(' ').map(str::to_owned);
    let command = Command::new(&words.next().unwrap());
    let command = words.fold(command, Command::arg);
    server.client().await.command(command).await.unwrap()
}

fn bytes(len: usize) -> Bytes {
    (0..len).map(|n| (n % 251) as u8).collect()
}

async fn both(test: impl AsyncFn(&[Server], Client)) {
    for servers in [proxies(), redis().await] {
        test(&servers, servers[1].client().await).await;
        // and one that has not said a word before its first request
        run(&servers[0], "FLUSHALL").await;
        run(&servers[1], "FLUSHALL").await;
        test(&servers, Client::new(servers[0].options())).await;
    }
}

#[tokio::test]
async fn every_method_finds_the_server_of_its_key() {
    both(async |servers, client| {
        let keys: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
        let pairs = keys.iter().map(|key| (key, key.clone()));
        client.set_many(pairs).await.unwrap();
        for server in servers {
            let count = run(server, "DBSIZE").await;
            assert!(
                matches!(count, Reply::Integer(1..60)),
                "{count:?} keys are on one server"
            );
        }
        let wanted: Vec<&String> = keys.iter().chain(&keys).collect();
        let values = client.get_many(&wanted).await.unwrap();
        let values: Vec<_> = values.into_iter().map(Option::unwrap).collect();
        assert!(values.iter().zip(&wanted).all(|(value, key)| value == *key));
        for (n, key) in keys.iter().enumerate() {
            let value = bytes(n * 5000);
            client.set(key, value.clone()).await.unwrap();
            assert!(client.get(key).await.unwrap().unwrap() == value);
            assert!(client.get_small(key).await.unwrap().unwrap() == value);
            let part = client.get_range(key, 100..90_000).await.unwrap();
            assert!(part == value.slice(100.min(value.len())..90_000.min(value.len())));
            assert!(client.exists(key).await.unwrap());
            assert!(client.expire(key, Duration::from_secs(60)).await.unwrap());
            assert!(matches!(client.ttl(key).await.unwrap(), Ttl::In(_)));
            assert!(client.persist(key).await.unwrap());
            let len = client.append(key, "x").await.unwrap();
            assert_eq!(len, value.len() as u64 + 1);
            let strlen = Command::new("STRLEN").arg(key.clone());
            let strlen = client.command(strlen).await.unwrap();
            assert_eq!(strlen, Reply::Integer(len.try_into().unwrap()));
        }
        let some = client.get_many(["k59", "none", "k0"]).await.unwrap();
        let lens = some.iter().map(|v| v.as_ref().map(Bytes::len));
        assert!(lens.eq([Some(295_001), None, Some(1)]));
        assert_eq!(client.delete_many(&keys[1..]).await.unwrap(), 59);
        assert_eq!(client.delete_many(&keys).await.unwrap(), 1);
        assert!(!client.delete("k0").await.unwrap());
        assert_eq!(client.incr("n", 7).await.unwrap(), 7);
        client.ping().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn hash_tags_keep_keys_together() {
    both(async |_, client| {
        for tag in ["foo", "bar", "hello"] {
            let keys = ["a", "b", "c"].map(|key| format!("{key}{{{tag}}}"));
            client
                .set_many(keys.clone().map(|key| (key, "v")))
                .await
                .unwrap();
            let script = "return redis.call('EXISTS', unpack(KEYS))";
            let eval = Command::new("EVAL").arg(script).arg("3");
            let eval = keys.iter().cloned().fold(eval, Command::arg);
            assert_eq!(client.command(eval).await.unwrap(), Reply::Integer(3));
        }
        // another's slots are not cut up behind the back of who asks for a command
        let mget = Command::new("MGET").arg("foo").arg("bar");
        let error = client.command(mget).await.unwrap_err();
        assert_eq!(error.code(), Some(&ErrorCode::CrossSlot));
        // a wrong idea of who has the key costs a redirect
        let set = Command::new("SET").arg("foo").arg("1").routed_by("bar");
        client.command(set).await.unwrap();
        assert_eq!(client.get("foo").await.unwrap().unwrap(), "1");
    })
    .await;
}

#[tokio::test]
async fn streams_and_loaders_find_it_too() {
    both(async |_, client| {
        for key in ["foo", "bar", "hello", "k1", "k2"] {
            let value = bytes(1_500_000);
            let options = SetOptions::new();
            let len = value.len() as u64;
            let put = client.put_reader(key, len, &value[..], options).await;
            assert!(put.unwrap().stored);
            let pieces = stream::iter(value.chunks(70_000).map(Bytes::copy_from_slice));
            let pieces: Vec<Bytes> = futures_util::StreamExt::collect(pieces).await;
            client
                .put_stream(key, len, stream::iter(pieces), options)
                .await
                .unwrap();
            let resume = Resume::IfUnchanging { attempts: 2 };
            let found = client.get_stream_with(key, resume).await.unwrap().unwrap();
            let found: Vec<Bytes> = found.try_collect().await.unwrap();
            assert!(found.concat() == value);
            let loaded = format!("loaded:{key}");
            let keep = Keep::fresh_for(Duration::from_secs(60));
            for _ in 0..2 {
                let load = async || io::Result::Ok(Bytes::from_static(b"v"));
                let value = client.get_or_insert_with(&loaded, keep, load).await;
                assert_eq!(value.unwrap(), "v");
            }
            assert!(client.exists(&loaded).await.unwrap());
        }
    })
    .await;
}

#[tokio::test]
async fn slots_move_from_one_redis_to_another() {
    let servers = redis().await;
    let [from, to] = [&servers[1], &servers[0]];
    let client = to.client().await;
    // slot 12182 is of the second
    for key in ["{foo}old", "{foo}only here"] {
        client.set(key, "old").await.unwrap();
    }
    let ids = [
        run(from, "CLUSTER MYID").await,
        run(to, "CLUSTER MYID").await,
    ];
    let [from_id, to_id] = ids.map(|id| match id {
        Reply::Bulk(id) => String::from_utf8(id.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    });
    run(to, &format!("CLUSTER SETSLOT 12182 IMPORTING {from_id}")).await;
    run(from, &format!("CLUSTER SETSLOT 12182 MIGRATING {to_id}")).await;
    // what is not there any more, or not yet: ASK
    let value = bytes(300_000);
    let len = value.len() as u64;
    let options = SetOptions::new();
    assert_eq!(client.get("{foo}new").await.unwrap(), None);
    assert_eq!(client.get_small("{foo}new").await.unwrap(), None);
    assert!(!client.exists("{foo}new").await.unwrap());
    client.set("{foo}new", "new").await.unwrap();
    client.set("{foo}large", value.clone()).await.unwrap();
    let put = client.put_reader("{foo}put", len, &value[..], options);
    put.await.unwrap();
    assert!(client.get("{foo}large").await.unwrap().unwrap() == value);
    let put = client.get_stream("{foo}put").await.unwrap().unwrap();
    let put: Vec<Bytes> = put.try_collect().await.unwrap();
    assert!(put.concat() == value);
    let keep = Keep::fresh_for(Duration::from_secs(60));
    let load = async || io::Result::Ok(Bytes::from_static(b"v"));
    let loaded = client.get_or_insert_with("{foo}loaded", keep, load).await;
    assert_eq!(loaded.unwrap(), "v");
    assert!(matches!(
        client.ttl("{foo}loaded").await.unwrap(),
        Ttl::In(_)
    ));
    // what is still there
    assert_eq!(client.get("{foo}old").await.unwrap().unwrap(), "old");
    let here = run(from, "CLUSTER COUNTKEYSINSLOT 12182").await;
    let there = run(to, "CLUSTER COUNTKEYSINSLOT 12182").await;
    assert_eq!((here, there), (Reply::Integer(2), Reply::Integer(4)));
    client.delete("{foo}old").await.unwrap();
    client.delete("{foo}only here").await.unwrap();
    // and from now on: MOVED
    for server in [to, from] {
        run(server, &format!("CLUSTER SETSLOT 12182 NODE {to_id}")).await;
    }
    assert_eq!(client.get("{foo}new").await.unwrap().unwrap(), "new");
    let moved = client.get_stream("{foo}large").await.unwrap().unwrap();
    let moved: Vec<Bytes> = moved.try_collect().await.unwrap();
    assert!(moved.concat() == value);
    client.set("foo", "v").await.unwrap();
    assert_eq!(client.delete_many(["foo", "{foo}new"]).await.unwrap(), 2);
}

#[tokio::test]
async fn members_that_send_us_to_each_other_are_given_up() {
    let ports = Arc::new(Mutex::new(HashMap::new()));
    let seen = Arc::new(AtomicUsize::new(0));
    let start = async |name: &'static str, other: &'static str| {
        let (ports, seen) = (Arc::clone(&ports), Arc::clone(&seen));
        let all = Arc::clone(&ports);
        let fake = member(Arc::new(move |words: &[String]| {
            let port: u16 = all.lock().unwrap()[other];
            if words[0] == "CLUSTER" {
                return all_at(port);
            }
            seen.fetch_add(1, SeqCst);
            // one of them does not know its own name
            match name {
                "a" => format!("-MOVED 1 :{port}\r\n"),
                _ => format!("-MOVED 1 127.0.0.1:{port}\r\n"),
            }
        }))
        .await;
        ports.lock().unwrap().insert(name, fake.address.port());
        fake
    };
    let (a, _b) = (start("a", "b").await, start("b", "a").await);
    for own in [true, false] {
        seen.store(0, SeqCst);
        let client = Client::new(a.options().retries(0));
        let error = match own {
            true => client.get("k").await.unwrap_err(),
            false => client.incr("k", 1).await.unwrap_err(),
        };
        assert!(matches!(
            error.code(),
            Some(ErrorCode::Moved { slot: 1, .. })
        ));
        assert!(error.is_retryable() && !error.may_have_happened());
        assert_eq!(seen.load(SeqCst), 6, "the first one, and five redirects");
    }
}

#[tokio::test]
async fn the_map_is_brought_by_one_for_all_and_not_too_often() {
    let maps = Arc::new(AtomicUsize::new(0));
    let home = member(Arc::new(|_| "$1\r\nv\r\n".into())).await;
    let port = home.address.port();
    let counter = Arc::clone(&maps);
    // always wrong: it keeps saying that it has all itself
    let me = Arc::new(AtomicUsize::new(0));
    let mine = Arc::clone(&me);
    let seed = member(Arc::new(move |words: &[String]| {
        if words[0] == "CLUSTER" {
            counter.fetch_add(1, SeqCst);
            return all_at(mine.load(SeqCst).try_into().unwrap());
        }
        format!("-MOVED 1 127.0.0.1:{port}\r\n")
    }))
    .await;
    me.store(seed.address.port().into(), SeqCst);
    let begun = Instant::now();
    let client = Client::new(seed.options());
    for _ in 0..20 {
        let all = (0..50).map(|n| {
            let (client, key) = (client.clone(), format!("k{n}"));
            async move { client.get_small(key).await }
        });
        for value in join_all(all).await {
            assert_eq!(value.unwrap().unwrap(), "v");
        }
    }
    let most = begun.elapsed().as_secs() + 2;
    let maps = maps.load(SeqCst) as u64;
    assert!((1..=most).contains(&maps), "{maps} maps, at most {most}");
}

#[tokio::test]
async fn who_is_met_behind_the_end_gets_no_connection() {
    let met = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&met);
    let home = Fake::start(move |_, peer: Peer| {
        counter.fetch_add(1, SeqCst);
        async move { peer.answer_as_member(|_| "$1\r\nv\r\n".into()).await }
    })
    .await;
    let port = home.address.port();
    let (asked, is_asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (go, waits) = (Arc::clone(&asked), Arc::clone(&is_asked));
    let seed = Fake::start(move |_, mut peer: Peer| {
        let (go, waits) = (Arc::clone(&go), Arc::clone(&waits));
        async move {
            peer.welcome().await.unwrap();
            waits.notify_one();
            go.notified().await;
            peer.say(format!("-MOVED 1 127.0.0.1:{port}\r\n")).await;
            let _ = peer.request().await;
        }
    })
    .await;
    let client = Client::new(seed.options().retries(0));
    let asking = client.clone();
    let get = tokio::spawn(async move { asking.get("k").await });
    is_asked.notified().await;
    // it is under way, and learns where to go when the end has begun
    let end = client.close(Duration::from_secs(60));
    let (is_done, ()) = tokio::join!(biased; end, async { asked.notify_one() });
    let error = get.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
    assert!(is_done);
    assert_eq!(met.load(SeqCst), 0);
}

/// A member that has nothing, and what it tells: by MOVED to EXISTS, or to the SET only.
async fn moving(at_set: bool) -> (Fake, Fake, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(vec![]));
    let note = |name: &'static str| {
        let seen = Arc::clone(&seen);
        move |words: &[String]| seen.lock().unwrap().push(format!("{name} {}", words[0]))
    };
    let (here, there) = (note("new"), note("old"));
    let home = member(Arc::new(move |words: &[String]| {
        here(words);
        match words[0].as_str() {
            "SET" => "+OK\r\n".into(),
            _ => ":0\r\n".into(),
        }
    }))
    .await;
    let port = home.address.port();
    let me = Arc::new(AtomicUsize::new(0));
    let mine = Arc::clone(&me);
    let has_gone = AtomicBool::new(!at_set);
    let old = member(Arc::new(move |words: &[String]| {
        match words[0].as_str() {
            "CLUSTER" if !at_set => return "-ERR not now\r\n".into(),
            "CLUSTER" if has_gone.load(SeqCst) => return all_at(port),
            "CLUSTER" => return all_at(mine.load(SeqCst).try_into().unwrap()),
            "EXISTS" if !has_gone.load(SeqCst) => {
                there(words);
                return ":0\r\n".into();
            }
            _ => there(words),
        }
        has_gone.store(true, SeqCst);
        format!("-MOVED 12182 127.0.0.1:{port}\r\n")
    }))
    .await;
    me.store(old.address.port().into(), SeqCst);
    (old, home, seen)
}

#[tokio::test]
async fn a_source_is_not_taken_for_the_wrong_member() {
    let (old, _home, seen) = moving(false).await;
    let client = Client::new(old.options());
    let noted = Arc::clone(&seen);
    let source = stream::once(async move {
        noted.lock().unwrap().push("taken".into());
        Bytes::from(vec![1; 100_000])
    });
    let put = client.put_stream("foo", 100_000, source, SetOptions::new());
    assert!(put.await.unwrap().stored);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[..], ["old EXISTS", "new EXISTS", "taken", "new SET"]);
}

#[tokio::test]
async fn a_stream_that_met_a_moving_slot_can_be_made_again() {
    let (old, home, seen) = moving(true).await;
    let client = Client::new(old.options());
    let body = vec![1; 100_000];
    let put = || client.put_reader("foo", 100_000, &body[..], SetOptions::new());
    let error = put().await.unwrap_err();
    let address = home.address.to_string();
    let moved = ErrorCode::Moved {
        slot: 12_182,
        address,
    };
    assert_eq!(error.code(), Some(&moved));
    assert!(error.is_retryable() && !error.may_have_happened());
    assert_eq!(seen.lock().unwrap()[..], ["old EXISTS", "old SET"]);
    seen.lock().unwrap().clear();
    assert!(put().await.unwrap().stored);
    assert_eq!(seen.lock().unwrap()[..], ["new EXISTS", "new SET"]);
}

#[tokio::test]
async fn parts_that_were_not_done_are_told() {
    let gone = free_address().port();
    let ports = Arc::new(AtomicUsize::new(0));
    let mine = Arc::clone(&ports);
    let seed = member(Arc::new(move |words: &[String]| match words[0].as_str() {
        // bar and hello are here, foo is not
        "CLUSTER" => {
            let me = mine.load(SeqCst);
            let range = |from, to, port: &str| {
                format!("*3\r\n:{from}\r\n:{to}\r\n*2\r\n$0\r\n\r\n:{port}\r\n")
            };
            let (here, there) = (
                range(0, 8191, &me.to_string()),
                range(8192, 16_383, &gone.to_string()),
            );
            format!("*2\r\n{here}{there}")
        }
        "MSET" => "+OK\r\n".into(),
        "PING" => "+PONG\r\n".into(),
        _ => ":1\r\n".into(),
    }))
    .await;
    ports.store(seed.address.port().into(), SeqCst);
    let client = Client::connect(seed.options().retries(0)).await.unwrap();
    assert_eq!(client.delete_many(["bar", "hello"]).await.unwrap(), 2);
    for error in [
        client
            .delete_many(["bar", "hello", "foo"])
            .await
            .unwrap_err(),
        client
            .set_many([("foo", "1"), ("bar", "2"), ("hello", "3")])
            .await
            .unwrap_err(),
    ] {
        let Error::Partial {
            done: 2,
            of: 3,
            ref why,
        } = error
        else {
            panic!("{error}")
        };
        assert!(matches!(**why, Error::Connect { .. }), "{why}");
        assert!(error.is_retryable() && error.may_have_happened());
    }
    let error = client.get_many(["foo", "bar"]).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[test]
fn futures_may_go_to_other_threads() {
    fn check<T: Send>(_: impl FnOnce(Client) -> T) {}
    async fn all(client: Client) {
        let _ = client.get_many(["k"]).await;
        let _ = client.set_many([("k", "v")]).await;
        let _ = client.delete_many(["k"]).await;
        let source = stream::iter([Bytes::new()]);
        let _ = client.put_stream("k", 0, source, SetOptions::new()).await;
        let _ = client.get_stream("k").await;
        let _ = client.command(Command::new("PING")).await;
        let _ = Client::connect(Options::new("h", 1)).await;
    }
    check(all);
}
