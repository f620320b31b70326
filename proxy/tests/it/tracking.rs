//! CLIENT TRACKING over real sockets, as redis-server 7.0.15 does it.

use std::net::TcpStream;

use crate::{
    differential::{POOL, Peer, Redis, Reply},
    server::{CLIENT_LIMIT, Server, until},
};

type Client = Peer<TcpStream>;

fn ask(client: &mut Client, line: &str) -> String {
    show(&client.say(line))
}

fn show(reply: &Reply) -> String {
    match reply {
        Reply::Plain(text) => text.clone(),
        Reply::Integer(n) => n.to_string(),
        Reply::Several(_, parts) => parts.iter().map(show).collect::<Vec<_>>().join(" "),
    }
}

fn next(client: &mut Client) -> String {
    show(&client.reply())
}

fn resp3(server: &Server) -> Client {
    let mut client = Peer::of(server);
    client.say("hello 3");
    client
}

const INVALIDATE: &str = "$invalidate ";

/// What is refused, and what is told of it: both get the same.
#[test]
fn options_are_understood_as_redis_does() {
    let Some(redis) = Redis::start() else { return };
    let server = Server::start(&POOL);
    let (mut ours, mut theirs) = (Peer::of(&server), redis.connect());
    for line in [
        "tracking foo",
        "tracking on foo",
        "tracking on redirect",
        "tracking on redirect x",
        "tracking on redirect 999",
        "tracking on redirect 0",
        "tracking on prefix a",
        "tracking on optin optout",
        "tracking on bcast optin",
        "tracking on bcast prefix a prefix ab",
        "tracking on bcast prefix b prefix a noloop",
        "trackinginfo",
        "tracking on bcast prefix bc",
        "tracking on",
        "tracking on bcast prefix c",
        "trackinginfo",
        "tracking off",
        "tracking on bcast",
        "trackinginfo",
        "tracking on bcast",
        "tracking on bcast prefix x",
        "tracking off foo",
        "tracking off noloop",
        "tracking on optin",
        "caching no",
        "caching yes",
        "trackinginfo",
        "caching maybe",
        "tracking on optout",
        "tracking on",
        "tracking on optout",
        "caching no",
        "trackinginfo",
        "tracking off",
        "trackinginfo",
        "getredir",
        "caching yes",
        "tracking on noloop noloop",
        "getredir",
        "trackinginfo",
        "tracking",
        "caching",
    ] {
        let line = format!("client {line}");
        assert_eq!(ours.say(&line), theirs.say(&line), "{line}");
    }
    ours.say("reset");
    assert_eq!(ask(&mut ours, "client getredir"), "-1");
}

#[test]
fn who_has_read_a_key_is_told_by_whatever_changes_it() {
    for ack in ["quorum", "proxy"] {
        let server = Server::start(&[&POOL[..], &["--ack", ack]].concat());
        let (mut reader, mut writer) = (resp3(&server), Peer::of(&server));
        assert_eq!(ask(&mut reader, "client tracking on"), "+OK");
        let info = ask(&mut writer, "client list");
        assert!(
            info.contains("flags=t ") && info.contains("redir=0 "),
            "{info}"
        );
        let mut at = 0;
        let mut change = |lines: &[&str]| {
            at += 1;
            let key = format!("k{at}");
            writer.say(&format!("mset {key} 1 {key}:b 2"));
            let read = ask(&mut reader, &format!("get {key}"));
            assert_eq!(read, "$1", "{lines:?}");
            for line in lines {
                writer.say(&line.replace('@', &key));
            }
            assert_eq!(
                next(&mut reader),
                format!("{INVALIDATE}${key}"),
                "{lines:?}"
            );
            // once: it is forgotten
            writer.say(&format!("set {key} x"));
        };
        change(&["set @ 2"]);
        change(&["del @"]);
        change(&["append @ x"]);
        change(&["expire @ 100"]);
        change(&["rename @ other"]);
        change(&["rename @:b @"]);
        change(&["multi", "incr @", "exec"]);
        change(&["eval return(redis.call('set',KEYS[1],2)) 1 @"]);
        change(&["setbit @ 1 1"]);
        change(&["pexpire @ 1", "exists @"]);
        // what was read is not told when others change, nor after it is forgotten
        writer.say("set unread 2");
        reader.say("mget a b");
        writer.say("mset b 1 a 2");
        let both = [next(&mut reader), next(&mut reader)];
        assert_eq!(both, [format!("{INVALIDATE}$b"), format!("{INVALIDATE}$a")]);
        writer.say("hset h f 1");
        reader.say("eval return(redis.call('hget',KEYS[1],'f')) 1 h");
        writer.say("hset h f 1");
        assert_eq!(next(&mut reader), format!("{INVALIDATE}$h"));
        for line in ["multi", "get x", "exec"] {
            reader.say(line);
        }
        writer.say("set x 1");
        assert_eq!(next(&mut reader), format!("{INVALIDATE}$x"));
        reader.say("get x");
        writer.say("flushdb");
        assert_eq!(next(&mut reader), format!("{INVALIDATE}_"));
        writer.say("set x 1");
        assert_eq!(ask(&mut reader, "ping"), "+PONG");
    }
}

#[test]
fn choices_of_what_is_told_hold() {
    let server = Server::start(&POOL);
    let (mut reader, mut writer) = (resp3(&server), Peer::of(&server));
    // its own changes are told, behind the reply, unless it wants none of them
    reader.say("client tracking on");
    reader.say("get a");
    assert_eq!(ask(&mut reader, "set a 1"), "+OK");
    assert_eq!(next(&mut reader), format!("{INVALIDATE}$a"));
    reader.say("client tracking on noloop");
    for line in ["get a", "set a 1", "get a"] {
        reader.say(line);
    }
    assert_eq!(ask(&mut reader, "ping"), "+PONG");
    writer.say("set a 1");
    assert_eq!(next(&mut reader), format!("{INVALIDATE}$a"));
    // only what it says, and only the next command
    reader.say("client tracking off");
    reader.say("client tracking on optin");
    for line in ["get a", "client caching yes", "get b", "get c"] {
        reader.say(line);
    }
    writer.say("mset a 1 c 1 b 1");
    assert_eq!(next(&mut reader), format!("{INVALIDATE}$b"));
    reader.say("client tracking off");
    reader.say("client tracking on optout");
    for line in ["client caching no", "get b", "get c"] {
        reader.say(line);
    }
    writer.say("mset a 1 b 1 c 1");
    assert_eq!(next(&mut reader), format!("{INVALIDATE}$c"));
    reader.say("client tracking off");
    // by prefix, read or not
    reader.say("client tracking on bcast prefix user: prefix z");
    writer.say("mset user:1 x user y zz 1");
    assert_eq!(next(&mut reader), format!("{INVALIDATE}$user:1"));
    assert_eq!(next(&mut reader), format!("{INVALIDATE}$zz"));
    assert_eq!(ask(&mut reader, "client tracking off"), "+OK");
    writer.say("set user:2 x");
    assert_eq!(ask(&mut reader, "ping"), "+PONG");
}

#[test]
fn a_connection_of_resp2_has_another_one_be_told() {
    let server = Server::start(&POOL);
    let [mut reader, mut other, mut writer] = [0, 1, 2].map(|_| Peer::of(&server));
    let id = ask(&mut other, "client id");
    other.say("subscribe __redis__:invalidate");
    reader.say(&format!("client tracking on redirect {id}"));
    assert_eq!(ask(&mut reader, "client getredir"), id);
    reader.say("get a");
    writer.say("set a 1");
    let message = "$message $__redis__:invalidate ";
    assert_eq!(next(&mut other), format!("{message}$a"));
    writer.say("flushall");
    assert_eq!(next(&mut other), format!("{message}$-1"));
    drop(other);
    until("it is gone", CLIENT_LIMIT, || {
        !ask(&mut writer, "client list").contains(&format!("id={id} "))
    });
    reader.say("get a");
    writer.say("set a 1");
    assert!(ask(&mut reader, "client trackinginfo").contains("broken_redirect"));
    assert!(ask(&mut reader, "client info").contains("flags=tR "));
    reader.say("hello 3");
    reader.say("get a");
    writer.say("set a 1");
    assert_eq!(next(&mut reader), format!("$tracking-redir-broken {id}"));
}

#[test]
fn so_many_keys_are_remembered() {
    let server = Server::start(&["--tracking-table-max-keys", "10"]);
    let (mut reader, mut other) = (resp3(&server), Peer::of(&server));
    reader.say("client tracking on");
    for i in 0..30 {
        reader.say(&format!("get k{i}"));
        if i >= 10 {
            assert!(next(&mut reader).starts_with(INVALIDATE));
        }
    }
    let info = ask(&mut other, "info");
    assert!(info.contains("tracking_clients:1") && info.contains("tracking_total_keys:10"));
    assert_eq!(
        ask(&mut other, "config set tracking-table-max-keys 7"),
        "+OK"
    );
    assert!(ask(&mut other, "config set tracking-table-max-keys 0").contains("between 1 and"));
    drop(reader);
    until("nobody tracks", CLIENT_LIMIT, || {
        let info = ask(&mut other, "info");
        info.contains("tracking_clients:0") && info.contains("tracking_total_keys:0")
    });
}

/// A copy that is kept until it is told to be old is never older than what was last
/// written when the telling came; others write all the time.
#[test]
fn no_copy_stays_old() {
    let server = Server::start(&POOL);
    let mut reader = resp3(&server);
    reader.say("client tracking on");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut writer, mut n) = (Peer::of(&server), 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                writer.say(&format!("set k {n}"));
            }
            n
        });
        for _ in 0..3000 {
            // a copy of this would be kept until that comes
            reader.say("get k");
            assert!(next(&mut reader).starts_with(INVALIDATE));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let last = writer.join().unwrap();
        // nobody writes any more: what is read now is told no more
        let read = ask(&mut reader, "get k");
        assert_eq!(read, format!("${last}"));
        assert_eq!(ask(&mut reader, "ping"), "+PONG");
    });
}
