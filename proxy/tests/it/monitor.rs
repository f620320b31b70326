//! MONITOR over real sockets. What it shows is compared with redis-server in
//! tests/peers/python/test_monitor.py.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use redis::Commands;

use crate::server::{CLIENT_LIMIT, Server, until};

/// A connection that watches.
struct Monitor(BufReader<TcpStream>);

impl Monitor {
    fn new(server: &Server) -> Self {
        let mut socket = server.socket();
        socket.write_all(b"MONITOR\r\n").unwrap();
        let mut monitor = Self(BufReader::new(socket));
        assert_eq!(monitor.line(), "+OK");
        monitor
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "closed");
        line.trim_end().to_owned()
    }

    /// What is shown up to this command, without times and addresses.
    fn until(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            let (_, words) = line.split_once("] ").unwrap();
            let words = match line.contains(" lua] ") {
                true => format!("lua {words}"),
                false => words.to_owned(),
            };
            if words == last {
                return lines;
            }
            lines.push(words);
        }
    }
}

/// Scripts and transactions that others were faster than begin anew, and are shown as
/// what they did in the end: each once, whole and in order.
#[test]
fn what_begins_anew_is_shown_once() {
    const EACH: usize = 40;
    // keys that are not named: nobody waits for their turn
    let add = "local n = redis.call('GET', 'n') or 0\nredis.call('SET', 'n', n + 1)";
    let server = Server::start(&[]);
    let mut monitor = Monitor::new(&server);
    let began_anew = || server.metric("scatterhoard_transactions_again_total") > 0.0;
    let mut rounds = 0;
    while rounds == 0 || (rounds < 20 && !began_anew()) {
        rounds += 1;
        std::thread::scope(|scope| {
            for transaction in [false, false, true, true] {
                let mut client = server.client();
                scope.spawn(move || {
                    let eval = redis::cmd("EVAL").arg(add).arg(0).clone();
                    let pipe = &mut redis::pipe();
                    if transaction {
                        pipe.atomic();
                    }
                    pipe.add_command(eval);
                    (0..EACH).for_each(|_| pipe.query(&mut client).unwrap());
                });
            }
        });
        let _: String = redis::cmd("ECHO")
            .arg(format!("round {rounds}"))
            .query(&mut server.client())
            .unwrap();
    }
    assert!(began_anew(), "nothing began anew in {rounds} rounds");
    let expected = 4 * EACH * rounds;
    let n: usize = server.client().get("n").unwrap();
    assert_eq!(n, expected);
    let seen = monitor.until("\"GET\" \"n\"");
    let is = |of: &'static str| seen.iter().filter(move |line| line.starts_with(of)).count();
    let all = ["\"EVAL\"", "lua \"GET\"", "lua \"SET\""].map(is);
    assert_eq!(all, [expected; 3]);
    assert_eq!(is("\"EXEC\""), expected / 2);
    // they are told together: a script, what it calls, and EXEC behind that
    let scripts = seen.iter().enumerate();
    for (at, _) in scripts.filter(|(_, line)| line.starts_with("\"EVAL\"")) {
        assert_eq!(seen[at + 1], "lua \"GET\" \"n\"");
        assert!(seen[at + 2].starts_with("lua \"SET\" \"n\" "));
    }
}

#[test]
fn a_monitor_that_takes_nothing_is_let_go_and_nobody_waits_for_it() {
    let server = Server::start(&[]);
    let mut slow = Monitor::new(&server);
    let mut client = server.client();
    let is_there = |client: &mut redis::Connection| {
        let listed: String = redis::cmd("CLIENT").arg("LIST").query(client).unwrap();
        listed.contains(" flags=O ")
    };
    assert!(is_there(&mut client));
    let limit = "normal 0 0 0 pubsub 4mb 2mb 60";
    let () = redis::cmd("CONFIG")
        .arg(&["SET", "client-output-buffer-limit", limit])
        .query(&mut client)
        .unwrap();
    let text = "x".repeat(16 << 10);
    let mut sent_mb = 0;
    until("it is let go", CLIENT_LIMIT, || {
        let pipe = &mut redis::pipe();
        (0..64).for_each(|_| {
            pipe.cmd("ECHO").arg(&text).ignore();
        });
        let () = pipe.query(&mut client).unwrap();
        sent_mb += 1;
        !is_there(&mut client)
    });
    // 4 MB in the proxy and what the sockets take
    assert!((4..70).contains(&sent_mb), "let go after {sent_mb} MB");
    slow.0
        .get_mut()
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // what the socket took comes, and then the end
    let mut piece = vec![0; 1 << 20];
    while slow.0.read(&mut piece).unwrap_or(0) > 0 {}
    // and others go on to be told
    let mut monitor = Monitor::new(&server);
    let _: String = redis::cmd("ECHO").arg("end").query(&mut client).unwrap();
    assert!(monitor.until("\"ECHO\" \"end\"").len() <= 1);
}

/// One that left, by whatever way, is told nothing more, and costs nothing.
#[test]
fn who_leaves_or_resets_watches_no_longer() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut one = Monitor::new(&server);
    let two = Monitor::new(&server);
    drop(two);
    let _: String = redis::cmd("ECHO").arg("first").query(&mut client).unwrap();
    one.until("\"ECHO\" \"first\"");
    one.0.get_mut().write_all(b"RESET\r\n").unwrap();
    assert_eq!(one.line(), "+RESET");
    let _: String = redis::cmd("ECHO").arg("second").query(&mut client).unwrap();
    one.0.get_mut().write_all(b"PING\r\n").unwrap();
    assert_eq!(one.line(), "+PONG");
    until("nobody watches", CLIENT_LIMIT, || {
        let listed: String = redis::cmd("CLIENT").arg("LIST").query(&mut client).unwrap();
        !listed.contains(" flags=O ")
    });
}
