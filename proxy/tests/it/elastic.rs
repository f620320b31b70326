//! Nodes come and go while clients read and write: nothing is lost, and those that were
//! drained are left alone.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::sys::signal::Signal;
use redis::{Commands, Connection};
use scatterhoard_proxy::elastic::Status;

use crate::{
    contents::{Random, Values, assert_same, fill, store, verify},
    platform::Platform,
    server::{Server, run, until},
};

const SOON: Duration = Duration::from_secs(90);
/// Nothing happens in it that should not.
const A_WHILE: Duration = Duration::from_secs(3);

fn proxy(platform: &Platform, folder: &Path, more: &[&str]) -> Server {
    let url = platform.url();
    let mut arguments = vec![
        "--lambda-endpoint",
        &url,
        "--data-parity",
        "3+2",
        "--warm-interval-s",
        "1",
        "--data-dir",
        folder.to_str().unwrap(),
    ];
    arguments.extend(more);
    Server::start(&arguments)
}

fn status(server: &Server) -> Status {
    let answer = server.admin("GET", "/pool");
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn states(server: &Server, state: &str) -> Vec<u16> {
    let nodes = status(server).nodes.into_iter();
    let of_it = nodes.filter(|node| node.state == state);
    of_it.map(|node| node.node).collect()
}

fn order(server: &Server, what: &str) {
    server.admin("POST", &format!("/pool/{what}"));
}

/// What the proxy says to an order that it does not carry out.
#[track_caller]
fn refusal(server: &Server, what: &str) -> String {
    let host = format!("host: {}", server.admin);
    let answer = server.admin_answers("POST", &format!("/pool/{what}"), &host);
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[track_caller]
fn until_gone(server: &Server, nodes: &[u16]) {
    until("they are drained", SOON, || {
        let gone = states(server, "gone");
        nodes.iter().all(|node| gone.contains(node))
    });
}

/// How often the functions of these nodes were invoked so far.
fn invokes(platform: &Platform, nodes: &[u16]) -> Vec<u64> {
    let ledger = platform.handle().ledger();
    let function = |node: &u16| format!("scatterhoard-node-{node:03}");
    let bill = |node| {
        ledger
            .functions
            .get(&function(node))
            .map_or(0, |b| b.requests)
    };
    nodes.iter().map(bill).collect()
}

/// Reads what is stored and writes keys of its own, until told to stop; what it wrote.
fn work(mut redis: Connection, stored: &Values, who: usize, stopped: &AtomicBool) -> Values {
    let (mut random, mut own) = (Random::new(who as u64), Values::new());
    while !stopped.load(Ordering::Relaxed) {
        for (key, value) in stored {
            let read: Option<Vec<u8>> = redis.get(key).unwrap();
            assert_same(key, read.as_deref(), value);
            let len = random.size(18);
            let key = format!("worker:{who}:{}", random.below(20));
            let value = random.any_bytes(len);
            store(&mut redis, &mut own, key, value);
            if stopped.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    own
}

/// Has clients at work while something is done.
fn under_load(server: &Server, stored: &mut Values, act: impl FnOnce()) {
    let stopped = AtomicBool::new(false);
    let mut stored_before = stored.clone();
    stored_before.retain(|key, _| !key.starts_with("worker:"));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|who| {
                let (redis, stored, stopped) = (server.client(), &stored_before, &stopped);
                scope.spawn(move || work(redis, stored, who, stopped))
            })
            .collect();
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        stopped.store(true, Ordering::Relaxed);
        for worker in workers {
            stored.extend(worker.join().unwrap());
        }
        if let Err(panic) = acted {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn drained_nodes_lose_nothing_and_are_left_alone_until_they_are_added_again() {
    const GOING: [u16; 3] = [3, 7, 13];
    let platform = Platform::start(14);
    let folder = tempfile::tempdir().unwrap();
    let server = proxy(&platform, folder.path(), &["--nodes", "14"]);
    let (mut redis, mut random) = (server.client(), Random::new(5));
    let sizes = [1, 5_000, 100_000, 700_000, 3_000_000];
    let mut stored = fill(&mut redis, &mut random, "", &sizes, 150);
    under_load(&server, &mut stored, || {
        order(&server, "drain?nodes=3,7,13");
        until_gone(&server, &GOING);
    });
    // what was under way when they went has come back by then
    std::thread::sleep(A_WHILE);
    let before = invokes(&platform, &GOING);
    under_load(&server, &mut stored, || std::thread::sleep(A_WHILE));
    verify(&mut redis, &stored, "after the drain");
    assert_eq!(invokes(&platform, &GOING), before, "left alone");
    assert!(server.metric("scatterhoard_moved_chunks_total") > 0.0);
    assert_eq!(server.metric("scatterhoard_lost_objects_total"), 0.0);
    let now = status(&server);
    assert_eq!((now.active, now.draining), (11, 0));
    under_load(&server, &mut stored, || {
        order(&server, "add?count=3");
        assert_eq!(states(&server, "active").len(), 14);
        until("they are used again", SOON, || {
            let pairs = invokes(&platform, &GOING).into_iter().zip(&before);
            pairs.into_iter().all(|(now, before)| now > *before + 1)
        });
    });
    verify(&mut redis, &stored, "after they were added again");
    server.stop();
}

#[test]
fn a_drain_goes_on_after_a_restart_and_who_has_gone_stays_gone() {
    const GOING: [u16; 2] = [0, 4];
    let platform = Platform::start(9);
    let folder = tempfile::tempdir().unwrap();
    let slow = ["--nodes", "8", "--repair-mb-s", "1"];
    let mut server = proxy(&platform, folder.path(), &slow);
    let (mut redis, mut random) = (server.client(), Random::new(6));
    let mut stored = fill(&mut redis, &mut random, "", &[100_000, 700_000], 50);
    for i in 0..30 {
        let value = random.bytes(900_000);
        store(&mut redis, &mut stored, format!("many:{i}"), value);
    }
    // one more than is configured
    order(&server, "add?count=1");
    assert_eq!(states(&server, "active").len(), 9);
    order(&server, "drain?nodes=0,4");
    until("it has begun", SOON, || {
        let moved = server.metric("scatterhoard_moved_chunks_total");
        moved > 2.0
    });
    assert_eq!(states(&server, "draining"), GOING, "in the middle of it");
    server.signal(Signal::SIGKILL);
    server.ended(Duration::from_secs(5)).unwrap();
    let server = proxy(&platform, folder.path(), &["--nodes", "8"]);
    let mut redis = server.client();
    verify(&mut redis, &stored, "in the middle of it");
    until_gone(&server, &GOING);
    verify(&mut redis, &stored, "after it");
    server.stop();
    let before = invokes(&platform, &GOING);
    let server = proxy(&platform, folder.path(), &["--nodes", "8"]);
    let mut redis = server.client();
    assert_eq!(states(&server, "gone"), GOING);
    assert_eq!(status(&server).active, 7);
    verify(&mut redis, &stored, "without them");
    std::thread::sleep(A_WHILE);
    assert_eq!(invokes(&platform, &GOING), before, "left alone");
    server.stop();
}

#[test]
fn what_cannot_be_is_refused_and_a_drain_can_be_cancelled() {
    let platform = Platform::start(6);
    let folder = tempfile::tempdir().unwrap();
    let server = proxy(
        &platform,
        folder.path(),
        &["--nodes", "6", "--repair-mb-s", "1"],
    );
    let (mut redis, mut random) = (server.client(), Random::new(7));
    let mut stored = Values::new();
    for i in 0..20 {
        let value = random.bytes(900_000);
        store(&mut redis, &mut stored, format!("many:{i}"), value);
    }
    let few = refusal(&server, "drain?count=2");
    assert!(few.starts_with("4 nodes would be left"), "{few}");
    let few = refusal(&server, "drain?count=2&force=true");
    assert!(few.starts_with("4 nodes would be left"), "{few}");
    assert!(refusal(&server, "drain?nodes=17").contains("no node 017"));
    assert!(refusal(&server, "drain?nodes=x").contains("numbers"));
    assert!(refusal(&server, "drain").contains("say ?count"));
    assert!(refusal(&server, "drain?count=0").contains("how many"));
    assert!(refusal(&server, "add?nodes=2").contains("node 002 is active"));
    assert!(refusal(&server, "cancel?nodes=2").contains("node 002 is active"));
    // there is no function for it
    let missing = refusal(&server, "add?count=1");
    assert!(missing.contains("scatterhoard-node-006"), "{missing}");
    assert!(missing.contains("must be there before"), "{missing}");
    assert_eq!(status(&server).nodes.len(), 6);
    let page = format!("host: {}\r\norigin: http://evil.example", server.admin);
    let answer = server.admin_answers("POST", "/pool/drain?count=1", &page);
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    order(&server, "drain?count=1");
    assert_eq!(states(&server, "draining"), [5]);
    assert!(refusal(&server, "add?nodes=5").contains("node 005 is draining"));
    order(&server, "cancel");
    assert_eq!(states(&server, "active").len(), 6);
    verify(&mut redis, &stored, "after the drain that was cancelled");
    server.stop();
}

/// The program's own words, of a command that is carried out.
#[track_caller]
fn pool(server: &Server, words: &[&str]) -> String {
    let admin = server.admin.to_string();
    let output = run(&[&["pool", "--admin", &admin], words].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words:?}: {text}{error}");
    text
}

#[test]
fn a_pool_on_this_machine_starts_further_functions_by_command() {
    let server = Server::start(&["--nodes", "6", "--data-parity", "3+2"]);
    let (mut redis, mut random) = (server.client(), Random::new(8));
    let mut stored = fill(&mut redis, &mut random, "", &[100_000, 1_000_000], 60);
    assert_eq!(pool(&server, &["add", "2"]), "added: 6,7\n");
    under_load(&server, &mut stored, || {
        let said = pool(&server, &["drain", "--nodes", "0,1", "--wait"]);
        assert_eq!(said, "drained: 0,1\n");
    });
    verify(&mut redis, &stored, "on the nodes that came");
    let said = pool(&server, &["status"]);
    assert!(said.starts_with("6 nodes active, 0 draining"), "{said}");
    assert!(
        said.contains("    0  gone      scatterhoard-node-000"),
        "{said}"
    );
    let instances = server.admin("GET", "/pool/instances");
    for function in ["scatterhoard-node-006", "scatterhoard-node-007"] {
        assert!(instances.contains(function), "{instances}");
    }
    let admin = server.admin.to_string();
    let output = run(&["pool", "--admin", &admin, "drain", "2"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("4 nodes would be left"), "{error}");
    server.stop();
}

#[test]
fn a_pool_grows_when_it_is_full_and_shrinks_when_it_is_not() {
    let platform = Platform::start(8);
    let folder = tempfile::tempdir().unwrap();
    let scale = [
        "--nodes",
        "5",
        "--pool-max-nodes",
        "7",
        "--pool-grow-above",
        "11",
        "--pool-shrink-below",
        "1",
        "--pool-step-s",
        "1",
    ];
    let server = proxy(&platform, folder.path(), &scale);
    let (mut redis, mut random) = (server.client(), Random::new(9));
    let mut stored = Values::new();
    let mut count = 0;
    until("it has grown", SOON, || {
        let value = random.bytes(1_000_000);
        store(&mut redis, &mut stored, format!("much:{count}"), value);
        count += 1;
        status(&server).active > 5
    });
    verify(&mut redis, &stored, "after it has grown");
    let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
    let mut stored = fill(&mut redis, &mut random, "", &[100_000], 20);
    under_load(&server, &mut stored, || {
        until("it has shrunk", SOON, || {
            let now = status(&server);
            (now.active, now.draining) == (5, 0)
        });
    });
    verify(&mut redis, &stored, "after it has shrunk");
    server.stop();
}

#[test]
fn what_drained_nodes_held_never_comes_back() {
    const GOING: [u16; 4] = [1, 2, 5, 8];
    let platform = Platform::start(9);
    let options = ["--nodes", "9", "--recover", "inventory"];
    let soon = ["--backup-interval-s", "1"];
    let folder = tempfile::tempdir().unwrap();
    let mut server = proxy(&platform, folder.path(), &[&options[..], &soon].concat());
    let (mut redis, mut random) = (server.client(), Random::new(11));
    let mut stored = Values::new();
    for i in 0..30 {
        let value = random.bytes(100_000);
        store(&mut redis, &mut stored, format!("alone:{i}"), value);
    }
    // most values have as many chunks there as it takes to read them
    order(&server, "drain?nodes=1,2,5,8");
    until_gone(&server, &GOING);
    let deleted: Vec<String> = stored.keys().step_by(2).cloned().collect();
    for key in &deleted {
        let () = redis.del(key).unwrap();
        stored.remove(key);
    }
    // those that stay free it as they are told, in their rounds
    for i in 0..8 {
        let value = random.bytes(300_000);
        store(&mut redis, &mut stored, format!("later:{i}"), value);
        std::thread::sleep(Duration::from_secs(1));
    }
    server.signal(Signal::SIGKILL);
    server.ended(Duration::from_secs(5)).unwrap();
    drop(folder);
    let folder = tempfile::tempdir().unwrap();
    let server = proxy(&platform, folder.path(), &options);
    assert!(server.log().contains("index made anew"), "{}", server.log());
    let mut redis = server.client();
    verify(&mut redis, &stored, "with an empty disk");
    for key in &deleted {
        let read: Option<Vec<u8>> = redis.get(key).unwrap();
        assert!(read.is_none(), "{key} is back");
    }
    server.stop();
}

#[test]
fn nodes_whose_functions_are_deleted_hold_up_neither_drains_nor_adding() {
    let platform = Platform::start(8);
    let folder = tempfile::tempdir().unwrap();
    let server = proxy(&platform, folder.path(), &["--nodes", "7"]);
    let (mut redis, mut random) = (server.client(), Random::new(12));
    let stored = fill(&mut redis, &mut random, "", &[100_000, 700_000], 20);
    order(&server, "drain?nodes=2");
    until_gone(&server, &[2]);
    let handle = platform.handle();
    for function in ["scatterhoard-node-002", "scatterhoard-node-004"] {
        handle.remove_function(function).unwrap();
    }
    order(&server, "drain?nodes=4");
    until_gone(&server, &[2, 4]);
    verify(&mut redis, &stored, "of which a chunk was lost");
    let said = pool(&server, &["add", "1"]);
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("added: 7"));
    for (node, line) in ["2", "4"].into_iter().zip(lines.by_ref()) {
        let skipped = format!("skipped node {node}: function scatterhoard-node-00{node} does not");
        assert!(line.starts_with(&skipped), "{said}");
    }
    assert_eq!(lines.next(), None, "{said}");
    // all or none, and a number cannot be left out
    let refused = refusal(&server, "add?count=1");
    for function in ["node-002", "node-004", "node-008", "must be there before"] {
        assert!(refused.contains(function), "{refused}");
    }
    let refused = refusal(&server, "add?nodes=2");
    assert!(
        refused.contains("function scatterhoard-node-002"),
        "{refused}"
    );
    assert_eq!(status(&server).active, 6);
    server.stop();
}

/// Acts as an operator's command does: new code for a function, at once.
fn renew(platform: &Platform, function: &str) {
    let handle = platform.handle();
    let functions = handle.functions();
    let mut config = functions.into_iter().find(|f| f.name == function).unwrap();
    config.env.insert("CODE".into(), "new".into());
    handle.put_function(config).unwrap();
}

#[test]
fn the_code_of_all_nodes_is_updated_and_nothing_is_lost() {
    let platform = Platform::start(7);
    let folder = tempfile::tempdir().unwrap();
    let server = proxy(&platform, folder.path(), &["--nodes", "7"]);
    let (mut redis, mut random) = (server.client(), Random::new(10));
    let sizes = [1, 5_000, 100_000, 700_000, 3_000_000];
    let mut stored = fill(&mut redis, &mut random, "", &sizes, 100);
    let instances = |platform: &Platform| -> Vec<u64> {
        let all = platform.handle().instances().into_iter();
        all.map(|instance| instance.id.0).collect()
    };
    let before = instances(&platform);
    assert!(before.len() >= 7);
    // the command asks us, and waits for an answer
    let mailbox = folder.path().join("mailbox");
    std::fs::create_dir(&mailbox).unwrap();
    let at = mailbox.display();
    let command = format!(
        "touch {at}/$SCATTERHOARD_FUNCTION; while test -e {at}/$SCATTERHOARD_FUNCTION; do sleep 0.02; done"
    );
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (platform, mailbox, over) = (&platform, &mailbox, &over);
        let operator = scope.spawn(move || {
            let mut updated = Vec::new();
            while !over.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir(mailbox).unwrap() {
                    let function = entry.unwrap().file_name().into_string().unwrap();
                    renew(platform, &function);
                    updated.push(function.clone());
                    std::fs::remove_file(mailbox.join(function)).unwrap();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            updated
        });
        under_load(&server, &mut stored, || {
            let words = ["update", "--at-once", "2", "--command", &command];
            let said = pool(&server, &words);
            assert_eq!(said, "7 functions are updated\n");
        });
        over.store(true, Ordering::Relaxed);
        assert_eq!(operator.join().unwrap().len(), 7);
    });
    verify(&mut redis, &stored, "after the update");
    assert_eq!(status(&server).active, 7);
    assert_eq!(server.metric("scatterhoard_lost_objects_total"), 0.0);
    let now = instances(&platform);
    assert!(
        now.iter().all(|id| !before.contains(id)),
        "{before:?} {now:?}"
    );
    // a command that fails leaves its node out, and says what to do
    let admin = server.admin.to_string();
    let words = ["update", "--nodes", "3", "--command", "exit 7"];
    let output = run(&[&["pool", "--admin", &admin], &words[..]].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("exit status: 7"), "{error}");
    assert!(error.contains("scatterhoard pool add --nodes 3"), "{error}");
    assert_eq!(states(&server, "gone"), [3]);
    assert_eq!(pool(&server, &["add", "--nodes", "3"]), "added: 3\n");
    verify(&mut redis, &stored, "in the end");
    server.stop();
}
