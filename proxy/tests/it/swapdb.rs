//! SWAPDB: two databases change places, at once and for good.

use crate::{
    differential::{POOL, Peer, Redis},
    server::Server,
};

#[test]
fn databases_are_swapped_as_redis_does_it() {
    let Some(redis) = Redis::start() else { return };
    for ack in ["quorum", "proxy"] {
        let server = Server::start(&[&POOL[..], &["--ack", ack]].concat());
        let (mut ours, mut theirs) = (Peer::of(&server), redis.connect());
        theirs.say("flushall");
        theirs.say("select 0");
        for line in [
            "mset a 1 both zero",
            "hset h f v",
            "pexpireat h 9999999999999",
            "select 3",
            "mset b 2 both three",
            "watch both",
            "swapdb 0 3",
            "multi",
            "get both",
            "exec",
            "mget a b both",
            "hgetall h",
            "pexpiretime h",
            "dbsize",
            "select 0",
            "mget a b both",
            "dbsize",
            "set a again",
            "swapdb 0 0",
            "swapdb 3 7",
            "dbsize",
            "select 3",
            "dbsize",
            "select 7",
            "mget a b both",
            "swapdb x 1",
            "swapdb 1 x",
            "swapdb 99999999999 1",
            "swapdb 1 16",
            "swapdb -1 1",
            "swapdb 1",
            "flushdb",
            "swapdb 0 7",
            "mget a b both",
        ] {
            assert_eq!(ours.say(line), theirs.say(line), "{line}, {ack}");
        }
        for line in ["multi", "swapdb 0 1"] {
            ours.say(line);
        }
        let refused = format!("{:?}", ours.say("exec"));
        assert!(
            refused.contains("not supported in transactions"),
            "{refused}"
        );
    }
}

#[test]
fn what_is_swapped_stays_so_after_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let options = [&POOL[..], &["--data-dir", data]].concat();
    let server = Server::start(&options);
    let mut client = Peer::of(&server);
    client.say("mset a 1 both zero");
    client.say("select 3");
    client.say("set both three");
    client.say("swapdb 0 3");
    server.stop();
    let server = Server::start(&options);
    let mut client = Peer::of(&server);
    // names are what is looked at: the pool of this start is another one
    assert_eq!(
        format!("{:?}", client.say("keys *")),
        "Several('*', [Plain(\"$both\")])"
    );
    client.say("select 3");
    let keys = format!("{:?}", client.say("keys *"));
    assert!(keys.contains("$a") && keys.contains("$both"), "{keys}");
}
