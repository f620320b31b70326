//! Links whose packets vanish: nobody is told, neither end's kernel either.
//!
//! Each test runs once more, in a network namespace of its own, with all of its
//! servers. There, policy routing drops what comes from the port of a node's link
//! or goes to it: the connection stays, half-open, for as long as TCP tries.

use std::{process::Command, time::Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::Commands;

use crate::{
    chaos::{HANGS, LARGE, NODE_TIMEOUT, NODES, PARITY, RECOVERS_WITHIN, Took, World, world},
    contents::assert_same,
    server::{free_address, until},
};

/// Set for a test that is in its namespace already.
const INSIDE: &str = "SCATTERHOARD_TEST_IN_NAMESPACE";
const ESTABLISHED: &str = "01";

/// Runs the test of this name in a namespace of its own; never skips it.
fn in_own_network(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        // before the table that knows this machine's addresses, there is room then
        ip("rule add pref 10 lookup local");
        ip("rule del pref 0");
        return test();
    }
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("cut::{name}"), "--nocapture"])
        .env(INSIDE, "yes")
        .output()
        .expect("unshare (util-linux) is needed");
    let said = [output.stdout, output.stderr].map(|o| String::from_utf8_lossy(&o).into_owned());
    let said = said.join("\n");
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name} in a namespace of its own: {}\n{said}",
        output.status
    );
    println!("{said}");
}

#[track_caller]
fn ip(words: &str) {
    let output = Command::new("ip")
        .args(words.split(' '))
        .output()
        .expect("ip (iproute2) is needed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {said}");
}

/// Both directions of what has this port at either end.
fn cut(port: u16) {
    for end in ["sport", "dport"] {
        ip(&format!(
            "rule add pref 5 ipproto tcp {end} {port} blackhole"
        ));
    }
}

fn mend(ports: usize) {
    for _ in 0..2 * ports {
        ip("rule del pref 5");
    }
}

/// A TCP socket of this namespace.
struct Socket {
    local: u16,
    remote: u16,
    state: String,
    /// Sent, and not acknowledged.
    unacknowledged: u64,
    inode: String,
}

fn sockets() -> Vec<Socket> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let port = |address: &str| u16::from_str_radix(address.split(':').nth(1).unwrap(), 16).unwrap();
    let rows = table.lines().skip(1);
    rows.map(|row| {
        let words: Vec<&str> = row.split_whitespace().collect();
        let (sent, _) = words[4].split_once(':').unwrap();
        Socket {
            local: port(words[1]),
            remote: port(words[2]),
            state: words[3].to_owned(),
            unacknowledged: u64::from_str_radix(sent, 16).unwrap(),
            inode: words[9].to_owned(),
        }
    })
    .collect()
}

/// A proxy whose nodes dial a port that is known.
struct Cut {
    world: World,
    links: u16,
}

impl Cut {
    fn new(seed: u64) -> Self {
        let links = free_address();
        let world = world(seed, &["--link-listen", &links.to_string()]);
        Self {
            world,
            links: links.port(),
        }
    }

    /// The port of a node process's link, if it has one now.
    fn port_of(&self, pid: Pid) -> Option<u16> {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let open: Vec<String> = files
            .flatten()
            .filter_map(|f| Some(std::fs::read_link(f.path()).ok()?.to_str()?.to_owned()))
            .collect();
        let of_it = |s: &Socket| open.contains(&format!("socket:[{}]", s.inode));
        let mut all = sockets().into_iter();
        let link = all.find(|s| s.remote == self.links && s.state == ESTABLISHED && of_it(s));
        link.map(|s| s.local)
    }

    /// Cuts the links of so many nodes that are at work; who they are, and the ports.
    fn cut_busy(&mut self, count: usize) -> Vec<(Pid, u16)> {
        // all are awake right behind this
        let _ = self.world.set("awake", 5_000_000);
        self.cut_linked(0, count)
    }

    /// The same of those that are at work anyway, from the `first` on.
    fn cut_linked(&self, first: usize, count: usize) -> Vec<(Pid, u16)> {
        let busy = self.world.busy().into_iter();
        let linked: Vec<(Pid, u16)> = busy.filter_map(|p| Some((p, self.port_of(p)?))).collect();
        let mut chosen = linked.repeat(2).split_off(first % linked.len().max(1));
        chosen.truncate(count);
        assert_eq!(chosen.len(), count, "too few nodes have a link");
        chosen.iter().for_each(|(_, port)| cut(*port));
        chosen
    }

    /// Whether something was sent over each of these links that nobody will get.
    fn is_lost_on_all(&self, ports: &[(Pid, u16)]) -> bool {
        let all = sockets();
        ports.iter().all(|(_, port)| {
            all.iter()
                .any(|s| (s.local == *port || s.remote == *port) && s.unacknowledged > 0)
        })
    }

    /// Reads and writes for a while: right, and most of them without waiting.
    #[track_caller]
    fn works(&mut self, stored: &[(String, Vec<u8>)], cut: &[(Pid, u16)]) {
        let mut redis = self.world.server.client();
        let (mut reads, mut writes) = (Took::default(), Took::default());
        let (end, mut is_lost) = (Instant::now() + NODE_TIMEOUT * 2, false);
        for turn in 0.. {
            if Instant::now() > end {
                break;
            }
            let (key, value) = &stored[turn % stored.len()];
            let started = Instant::now();
            let read: Option<Vec<u8>> = redis.get(key).unwrap();
            reads.add(started.elapsed());
            assert_same(key, read.as_deref(), value);
            is_lost |= self.is_lost_on_all(cut);
            if turn % 10 == 0 {
                let started = Instant::now();
                let _ = self.world.set("written", 900_000);
                writes.add(started.elapsed());
            }
        }
        assert!(is_lost, "no packet was lost: nothing is proved");
        reads.assert_prompt("GET");
        println!("longest SET {:?}", writes.longest());
    }

    fn all_is_there(&self, stored: &[(String, Vec<u8>)]) {
        let mut redis = self.world.server.client();
        for (key, value) in stored {
            let read: Option<Vec<u8>> = redis.get(key).unwrap();
            assert_same(key, read.as_deref(), value);
        }
    }
}

#[test]
fn links_that_are_cut_delay_nobody_for_long() {
    in_own_network("links_that_are_cut_delay_nobody_for_long", || {
        let mut cut = Cut::new(1);
        let stored = cut.world.some();
        let ports = cut.cut_busy(PARITY);
        cut.works(&stored, &ports);
        mend(ports.len());
        cut.all_is_there(&stored);
        cut.world.server.stop();
    });
}

/// As Lambda does it: no packet of a frozen instance, and no word when it is gone.
#[test]
fn nodes_that_freeze_and_vanish_without_a_packet_delay_nobody_for_long() {
    let name = "nodes_that_freeze_and_vanish_without_a_packet_delay_nobody_for_long";
    in_own_network(name, || {
        let mut cut = Cut::new(2);
        let stored = cut.world.some();
        let ports = cut.cut_busy(PARITY);
        for (pid, _) in &ports {
            kill(*pid, Signal::SIGSTOP).unwrap();
            kill(*pid, Signal::SIGKILL).unwrap();
        }
        cut.works(&stored, &ports);
        mend(ports.len());
        cut.all_is_there(&stored);
        cut.world.server.stop();
    });
}

#[test]
fn links_cut_in_the_middle_of_a_transfer_cost_no_byte() {
    let name = "links_cut_in_the_middle_of_a_transfer_cost_no_byte";
    in_own_network(name, || {
        let mut world = Cut::new(3);
        // of the links some are not part of the transfer: again, until one was
        let mut hit = [0, 0];
        for turn in 0..NODES {
            // whole, which what was written while a link was cut is not yet
            let value = world.world.set("large", LARGE);
            let (mut ports, started) = (Vec::new(), Instant::now());
            let cut_some = || ports = world.cut_linked(turn, PARITY);
            let read = world.world.get_with("large", LARGE, cut_some);
            assert_same("cut while read", Some(&read), &value);
            hit[0] += usize::from(world.is_lost_on_all(&ports));
            println!("read in {:?}", started.elapsed());
            assert!(started.elapsed() < HANGS);
            mend(PARITY);
            let started = Instant::now();
            let cut_one = || ports = world.cut_linked(turn, 1);
            let reply = world.world.set_with("large", &value, cut_one);
            assert_eq!(reply.as_deref(), Some("+OK"));
            hit[1] += usize::from(world.is_lost_on_all(&ports));
            println!("written in {:?}", started.elapsed());
            assert!(started.elapsed() < HANGS);
            mend(1);
            let read: Option<Vec<u8>> = world.world.server.client().get("large").unwrap();
            assert_same("written while cut", read.as_deref(), &value);
            if hit.iter().all(|hits| *hits > 0) {
                break;
            }
        }
        assert!(hit.iter().all(|hits| *hits > 0), "no packet lost: {hit:?}");
        world.world.server.stop();
    });
}

#[test]
fn a_proxy_that_no_node_reaches_says_so_and_recovers() {
    in_own_network("a_proxy_that_no_node_reaches_says_so_and_recovers", || {
        let mut world = Cut::new(4);
        let stored = world.world.some();
        let mut redis = world.world.server.client();
        cut(world.links);
        for (key, value) in &stored {
            let started = Instant::now();
            match redis.get::<_, Option<Vec<u8>>>(key) {
                Ok(read) => assert_same(key, read.as_deref(), value),
                Err(error) => assert_eq!(error.code(), Some("UNAVAILABLE"), "{key}: {error}"),
            }
            let took = started.elapsed();
            assert!(took < HANGS, "GET {key} took {took:?}");
        }
        mend(1);
        until("all can be read again", RECOVERS_WITHIN, || {
            stored.iter().all(|(key, value)| {
                let Ok(read) = redis.get::<_, Option<Vec<u8>>>(key) else {
                    return false;
                };
                assert_same(key, read.as_deref(), value);
                true
            })
        });
        let _ = world.world.set("after", 3_000_000);
        world.world.server.stop();
    });
}
