//! Three proxies that share the slots of a Redis Cluster. What Redis's own cluster
//! clients make of it: tests/peers.

use redis::{Commands, Connection, Value, cmd, pipe};

use crate::{
    contents::{Random, assert_same},
    server::{Server, free_address},
};

/// Three proxies; slots 0 to 5460, 5461 to 10922, and the others.
fn three() -> Vec<Server> {
    let addresses = [(); 3].map(|()| free_address().to_string());
    let slots = ["0-5460", "5461-10922", "10923-16383"];
    let members = addresses.iter().zip(slots).map(|(a, s)| format!("{a} {s}"));
    let members = members.collect::<Vec<_>>().join(",");
    let start = |address: &String| {
        Server::start(&[
            "--listen",
            address,
            "--cluster",
            &members,
            "--data-parity",
            "2+1",
            "--nodes",
            "3",
        ])
    };
    addresses.iter().map(start).collect()
}

#[track_caller]
fn error(redis: &mut Connection, line: &[&str]) -> String {
    let mut command = cmd(line[0]);
    line[1..].iter().for_each(|word| {
        command.arg(word);
    });
    let error = command.query::<Value>(redis).expect_err(line[0]);
    let code = error.code().unwrap_or_default().to_owned();
    format!("{code} {}", error.detail().unwrap_or_default())
}

// slots of keys: foo 12182, bar 5061, hello 866
#[test]
fn who_asks_the_wrong_proxy_is_sent_to_the_right_one() {
    let servers = three();
    let mut clients: Vec<Connection> = servers.iter().map(Server::client).collect();
    let large = Random::new(9).bytes(3 << 20);
    let moved = format!("MOVED 12182 {}", servers[2].address);
    let (first, rest) = clients.split_first_mut().unwrap();
    assert_eq!(error(first, &["GET", "foo"]), moved);
    // the body is read, and nothing of it kept
    let refused = first.set::<_, _, ()>("foo", &large).unwrap_err();
    assert_eq!(refused.code(), Some("MOVED"));
    assert_eq!(error(first, &["MGET", "foo", "bar"]), CROSS);
    assert_eq!(error(first, &["WATCH", "foo"]), moved);
    assert_eq!(error(first, &["SPUBLISH", "foo", "x"]), moved);
    assert_eq!(error(first, &["EVAL", "return 1", "1", "foo"]), moved);
    assert_eq!(
        error(first, &["EVAL", "return 1", "2", "foo", "bar"]),
        CROSS
    );
    let script = "return redis.call('GET', 'foo')";
    assert!(error(first, &["EVAL", script, "0"]).contains("non local key"));
    assert!(error(first, &["SELECT", "1"]).contains("SELECT is not allowed in cluster mode"));
    assert!(error(first, &["SWAPDB", "0", "1"]).contains("SWAPDB is not allowed in cluster mode"));
    assert!(
        error(first, &["COPY", "{hello}1", "{hello}2", "DB", "1"])
            .contains("not allowed in cluster")
    );
    let third = &mut rest[1];
    third.set::<_, _, ()>("foo", &large).unwrap();
    third.set::<_, _, ()>("{foo}2", "x").unwrap();
    let both: (Vec<u8>, String) = third.mget(&["foo", "{foo}2"]).unwrap();
    assert_same("foo", Some(&both.0), &large);
    assert_eq!(both.1, "x");
    // what is pipelined is judged one by one
    let mut pipeline = pipe();
    for n in 0..200 {
        pipeline.cmd("SET").arg(format!("k{n}")).arg("v").ignore();
    }
    assert!(pipeline.query::<()>(third).is_err());
    let kept: u64 = cmd("DBSIZE").query(third).unwrap();
    let mine = |n: &u32| {
        let slot: u16 = cmd("CLUSTER")
            .arg("KEYSLOT")
            .arg(format!("k{n}"))
            .query(third)
            .unwrap();
        slot > 10_922
    };
    let mine = (0..200).filter(mine).count() as u64;
    assert_eq!(kept, mine + 2);
    let none: u64 = cmd("DBSIZE").query(first).unwrap();
    assert_eq!(none, 0);
}

const CROSS: &str = "CROSSSLOT Keys in request don't hash to the same slot";

#[test]
fn transactions_are_for_one_slot_of_one_proxy() {
    let servers = three();
    let mut redis = servers[0].client();
    let run = |redis: &mut Connection, lines: &[&[&str]]| {
        cmd("MULTI").query::<()>(redis).unwrap();
        let mut replies = Vec::new();
        for line in lines {
            let mut command = cmd(line[0]);
            line[1..].iter().for_each(|word| {
                command.arg(word);
            });
            replies.push(command.query::<Value>(redis));
        }
        (replies, cmd("EXEC").query::<Vec<Value>>(redis))
    };
    let (queued, done) = run(&mut redis, &[&["SET", "hello", "1"], &["INCR", "{hello}2"]]);
    assert!(queued.iter().all(Result::is_ok));
    assert_eq!(done.unwrap().len(), 2);
    // one of them is elsewhere: told at once, and EXEC refuses
    let (queued, done) = run(&mut redis, &[&["SET", "hello", "2"], &["GET", "foo"]]);
    assert_eq!(queued[1].as_ref().unwrap_err().code(), Some("MOVED"));
    assert_eq!(done.unwrap_err().code(), Some("EXECABORT"));
    // each of them is here, but not in the same slot
    let (queued, done) = run(&mut redis, &[&["SET", "hello", "2"], &["SET", "bar", "2"]]);
    assert!(queued.iter().all(Result::is_ok));
    assert_eq!(done.unwrap_err().code(), Some("CROSSSLOT"));
    assert_eq!(redis.get::<_, String>("hello").unwrap(), "1");
}

#[test]
fn the_cluster_is_described_as_clients_want_it() {
    let servers = three();
    let mut redis = servers[1].client();
    type Owner = (String, u16, String, Vec<Value>);
    let slots: Vec<(u16, u16, Owner)> = cmd("CLUSTER").arg("SLOTS").query(&mut redis).unwrap();
    let ranges: Vec<_> = slots.iter().map(|s| (s.0, s.1)).collect();
    assert_eq!(ranges, [(0, 5460), (5461, 10_922), (10_923, 16_383)]);
    for (range, server) in slots.iter().zip(&servers) {
        let (host, port, id, _) = &range.2;
        assert_eq!(format!("{host}:{port}"), server.address.to_string());
        let mut own = server.client();
        let my_id: String = cmd("CLUSTER").arg("MYID").query(&mut own).unwrap();
        assert_eq!(*id, my_id);
    }
    let nodes: String = cmd("CLUSTER").arg("NODES").query(&mut redis).unwrap();
    let lines: Vec<&str> = nodes.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[1].contains(" myself,master - ") && lines[1].ends_with(" connected 5461-10922"));
    let info: String = cmd("CLUSTER").arg("INFO").query(&mut redis).unwrap();
    assert!(
        info.starts_with("cluster_state:ok\r\ncluster_slots_assigned:16384\r\n"),
        "{info}"
    );
    let shards: Vec<Value> = cmd("CLUSTER").arg("SHARDS").query(&mut redis).unwrap();
    assert_eq!(shards.len(), 3);
    for key in ["{a}1", "{a}2", "{a}3"] {
        servers[2].client().set::<_, _, ()>(key, "x").unwrap();
    }
    let mut third = servers[2].client();
    let mut ask = |words: &[&str]| {
        let mut command = cmd("CLUSTER");
        words.iter().for_each(|word| {
            command.arg(word);
        });
        command.query::<Value>(&mut third)
    };
    assert_eq!(ask(&["KEYSLOT", "{a}1"]).unwrap(), Value::Int(15_495));
    assert_eq!(ask(&["COUNTKEYSINSLOT", "15495"]).unwrap(), Value::Int(3));
    assert_eq!(ask(&["COUNTKEYSINSLOT", "15494"]).unwrap(), Value::Int(0));
    let keys = ask(&["GETKEYSINSLOT", "15495", "2"]).unwrap();
    assert_eq!(
        redis::from_redis_value::<Vec<String>>(keys).unwrap().len(),
        2
    );
    assert!(
        ask(&["COUNTKEYSINSLOT", "16384"])
            .unwrap_err()
            .to_string()
            .contains("Invalid slot")
    );
    assert!(
        ask(&["ADDSLOTS", "1"])
            .unwrap_err()
            .to_string()
            .contains("configuration")
    );
    // a proxy on its own knows nothing of it
    let alone = Server::start(&["--data-parity", "2+1", "--nodes", "3"]);
    let text = error(&mut alone.client(), &["CLUSTER", "INFO"]);
    assert_eq!(text, "ERR This instance has cluster support disabled");
}
