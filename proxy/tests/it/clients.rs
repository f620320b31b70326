//! What clients may learn of each other and do to each other, and what they are
//! ended for.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use redis::Commands;

use crate::server::{CLIENT_LIMIT, Server, until};

fn ask(client: &mut redis::Connection, words: &str) -> String {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    match command.query::<redis::Value>(client) {
        Ok(redis::Value::BulkString(bytes)) => String::from_utf8(bytes).unwrap(),
        Ok(redis::Value::VerbatimString { text, .. }) => text,
        Ok(value) => format!("{value:?}"),
        Err(error) => format!(
            "{} {}",
            error.code().unwrap_or_default(),
            error.detail().unwrap_or_default()
        ),
    }
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let mut fields = line.split([' ', '\n']);
    let field = fields.find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
    field.unwrap_or_else(|| panic!("no {name} in {line}"))
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(CLIENT_LIMIT)).unwrap();
    !matches!(stream.read(&mut [0; 64]), Ok(1..))
}

#[test]
fn a_list_says_how_each_connection_stands() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut other = server.client();
    assert_eq!(ask(&mut other, "CLIENT SETNAME worker"), "ok");
    let mut subscriber = server.socket();
    subscriber
        .write_all(b"SUBSCRIBE a b\r\nPSUBSCRIBE c*\r\n")
        .unwrap();
    let () = redis::cmd("MULTI").query(&mut other).unwrap();
    let _: redis::Value = redis::cmd("SET")
        .arg("k")
        .arg("v")
        .query(&mut other)
        .unwrap();
    until("they are listed", CLIENT_LIMIT, || {
        let list = ask(&mut client, "CLIENT LIST");
        list.contains(" sub=2 psub=1 ") && list.contains(" multi=1 ")
    });
    let list = ask(&mut client, "CLIENT LIST");
    let line = list.lines().find(|l| l.contains("name=worker")).unwrap();
    assert_eq!(field(line, "flags"), "x");
    assert_eq!(field(line, "cmd"), "set");
    assert_eq!(field(line, "laddr"), server.address.to_string());
    assert_ne!(field(line, "multi-mem"), "0");
    let line = list.lines().find(|l| l.contains("psub=1")).unwrap();
    assert_eq!(field(line, "flags"), "P");
    assert_eq!(
        field(line, "addr"),
        subscriber.local_addr().unwrap().to_string()
    );
    let of_kind = ask(&mut client, "CLIENT LIST TYPE pubsub");
    assert_eq!(of_kind.lines().count(), 1, "{of_kind}");
    let () = redis::cmd("CLIENT")
        .arg("NO-EVICT")
        .arg("ON")
        .query(&mut client)
        .unwrap();
    let mine = ask(&mut client, "CLIENT INFO");
    assert_eq!(
        (field(&mine, "flags"), field(&mine, "cmd")),
        ("e", "client|info")
    );
    assert_eq!(
        (field(&mine, "user"), field(&mine, "redir")),
        ("default", "-1")
    );
    assert_eq!(ask(&mut client, "CLIENT GETREDIR"), "int(-1)");
    assert!(ask(&mut client, "CLIENT TRACKINGINFO").contains("off"));
}

#[test]
fn connections_are_killed_by_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.acl");
    std::fs::write(
        &file,
        "user default on nopass ~* &* +@all\nuser al on >pw ~* &* +@all\n",
    )
    .unwrap();
    let server = Server::start(&["--acl-file", file.to_str().unwrap()]);
    let mut client = server.client();
    for (words, error) in [
        ("KILL 1:2", "ERR No such client"),
        ("KILL ID 0", "ERR client-id should be greater than 0"),
        ("KILL ID x", "ERR client-id should be greater than 0"),
        ("KILL TYPE foo", "ERR Unknown client type 'foo'"),
        ("KILL USER foo", "ERR No such user 'foo'"),
        ("KILL SKIPME x", "ERR syntax error"),
        ("KILL a b c", "ERR syntax error"),
        ("KILL ID 99", "int(0)"),
        ("KILL LADDR 127.0.0.1:1 ADDR 1:1", "int(0)"),
        ("PAUSE x", "ERR timeout is not an integer or out of range"),
        ("PAUSE -1", "ERR timeout is negative"),
        ("PAUSE 10 FOO", "ERR CLIENT PAUSE mode must be WRITE or ALL"),
    ] {
        assert_eq!(
            ask(&mut client, &format!("CLIENT {words}")),
            error,
            "{words}"
        );
    }
    let mut by_address = server.socket();
    let address = by_address.local_addr().unwrap();
    until("it is there", CLIENT_LIMIT, || {
        ask(&mut client, "CLIENT LIST").contains(&address.to_string())
    });
    assert_eq!(ask(&mut client, &format!("CLIENT KILL {address}")), "ok");
    assert!(is_closed(&mut by_address));
    let mut subscriber = server.socket();
    subscriber.write_all(b"SUBSCRIBE a\r\n").unwrap();
    until("it subscribes", CLIENT_LIMIT, || {
        client.publish::<_, _, usize>("a", "x").unwrap() == 1
    });
    until("it is listed", CLIENT_LIMIT, || {
        ask(&mut client, "CLIENT KILL TYPE pubsub") == "int(1)"
    });
    until("it is gone", CLIENT_LIMIT, || {
        client.publish::<_, _, usize>("a", "x").unwrap() == 0
    });
    let mut al = server.client();
    let () = redis::cmd("AUTH")
        .arg("al")
        .arg("pw")
        .query(&mut al)
        .unwrap();
    assert_eq!(field(&ask(&mut al, "CLIENT INFO"), "user"), "al");
    assert_eq!(ask(&mut client, "CLIENT KILL USER al"), "int(1)");
    assert!(redis::cmd("PING").query::<()>(&mut al).is_err());
    // in the middle of a body
    let mut sender = server.socket();
    sender
        .write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\nabc")
        .unwrap();
    let address = sender.local_addr().unwrap();
    until("it is there", CLIENT_LIMIT, || {
        ask(&mut client, &format!("CLIENT KILL ADDR {address}")) == "int(1)"
    });
    assert!(is_closed(&mut sender));
    // not oneself, unless one says so
    assert_eq!(ask(&mut client, "CLIENT KILL TYPE normal"), "int(0)");
    let id: u64 = redis::cmd("CLIENT").arg("ID").query(&mut client).unwrap();
    let me = format!("CLIENT KILL ID {id} SKIPME no");
    assert_eq!(ask(&mut client, &me), "int(1)");
    assert!(redis::cmd("PING").query::<()>(&mut client).is_err());
}

#[test]
fn a_pause_holds_writes_or_all_commands() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.client(), server.client());
    let () = client.set("k", "old").unwrap();
    assert_eq!(ask(&mut client, "CLIENT PAUSE 600000 WRITE"), "ok");
    assert_eq!(ask(&mut client, "CLIENT PAUSE 1 WRITE"), "ok");
    let mut writer = server.socket();
    writer
        .write_all(b"MULTI\r\nGET k\r\nEXEC\r\nSET k new\r\nPING\r\n")
        .unwrap();
    let mut got = vec![0; "+OK\r\n+QUEUED\r\n*1\r\n$3\r\nold\r\n".len()];
    writer.read_exact(&mut got).unwrap();
    assert_eq!(other.get::<_, String>("k").unwrap(), "old");
    writer
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(
        writer.read(&mut [0; 64]).is_err(),
        "the pause does not hold"
    );
    assert_eq!(other.get::<_, String>("k").unwrap(), "old");
    assert_eq!(ask(&mut client, "CLIENT UNPAUSE"), "ok");
    writer.set_read_timeout(Some(CLIENT_LIMIT)).unwrap();
    let mut got = vec![0; "+OK\r\n+PONG\r\n".len()];
    writer.read_exact(&mut got).unwrap();
    assert_eq!(got, b"+OK\r\n+PONG\r\n");
    assert_eq!(other.get::<_, String>("k").unwrap(), "new");
    // all of them, for a while
    let began = Instant::now();
    assert_eq!(ask(&mut client, "CLIENT PAUSE 500"), "ok");
    assert_eq!(ask(&mut other, "PING"), "simple-string(\"PONG\")");
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[test]
fn who_asks_for_nothing_is_let_go_if_that_is_wanted() {
    let server = Server::start(&[
        "--timeout",
        "1",
        "--client-output-buffer-limit",
        "normal 1mb 0 0",
    ]);
    let mut silent = server.socket();
    let mut subscriber = server.socket();
    subscriber.write_all(b"SUBSCRIBE a\r\n").unwrap();
    assert!(is_closed(&mut silent));
    let mut client = server.client();
    assert_eq!(client.publish::<_, _, usize>("a", "x").unwrap(), 1);
    let () = redis::cmd("CONFIG")
        .arg("SET")
        .arg("timeout")
        .arg(0)
        .arg("tcp-keepalive")
        .arg(60)
        .query(&mut client)
        .unwrap();
    let shown = ask(&mut client, "CONFIG GET t*");
    assert!(
        shown.contains("\"timeout\"") && shown.contains("\"60\""),
        "{shown}"
    );
    let shown = ask(&mut client, "CONFIG GET client-*");
    assert!(shown.contains("normal 1048576 0 0 slave"), "{shown}");
    assert!(shown.contains("client-query-buffer-limit"), "{shown}");
    // a reply that is longer than what may wait
    let long = "k".repeat(30_000);
    for i in 0..50 {
        let () = client.set(format!("{long}{i}"), "v").unwrap();
    }
    assert!(
        redis::cmd("KEYS")
            .arg("*")
            .query::<Vec<String>>(&mut client)
            .is_err()
    );
    // and replies that nobody takes: a little may wait, but not for long
    let mut client = server.client();
    let limit = "normal 0 100kb 1";
    let () = redis::cmd("CONFIG")
        .arg("SET")
        .arg("client-output-buffer-limit")
        .arg(limit)
        .query(&mut client)
        .unwrap();
    let mut deaf = server.socket();
    deaf.write_all(&b"KEYS *\r\n".repeat(20)).unwrap();
    until("it is ended", CLIENT_LIMIT, || {
        server.metric("scatterhoard_ended_clients_total") >= 3.0
    });
    let ended = server.admin("GET", "/metrics");
    assert!(
        ended.contains("scatterhoard_ended_clients_total{reason=\"output\"} 2"),
        "{ended}"
    );
    assert!(
        ended.contains("scatterhoard_ended_clients_total{reason=\"idle\"}"),
        "{ended}"
    );
}

#[test]
fn strangers_are_few_and_do_not_stay() {
    let server = Server::start(&["--requirepass", "pw"]);
    let mut client = server.client();
    let () = redis::cmd("AUTH").arg("pw").query(&mut client).unwrap();
    let mut first = server.socket();
    let mut others: Vec<TcpStream> = (0..256).map(|_| server.socket()).collect();
    let began = Instant::now();
    // one too many: the one that waited longest goes
    assert!(is_closed(&mut first));
    let mut known = server.socket();
    known.write_all(b"AUTH pw\r\n").unwrap();
    known.read_exact(&mut [0; 5]).unwrap();
    // all go in time, whatever they say meanwhile
    let talker = &mut others[255];
    talker.set_nonblocking(true).unwrap();
    until("strangers are ended", Duration::from_secs(40), || {
        let _ = talker.write_all(b"PING\r\n");
        std::thread::sleep(Duration::from_millis(100));
        !ask(&mut client, "CLIENT LIST").contains("user=default age=") && {
            let clients = server.metric("scatterhoard_clients");
            clients <= 2.0
        }
    });
    assert!(
        began.elapsed() >= Duration::from_secs(5),
        "let go too early"
    );
    known.write_all(b"PING\r\n").unwrap();
    known.read_exact(&mut [0; 7]).unwrap();
}

#[test]
fn who_trickles_a_value_is_ended_with_an_error() {
    let server = Server::start(&[]);
    let mut socket = server.socket();
    socket
        .write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000000\r\n")
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut said = Vec::new();
    until("it is ended", Duration::from_secs(90), || {
        let _ = socket.write_all(&[7; 1000]);
        std::thread::sleep(Duration::from_millis(100));
        let mut piece = [0; 256];
        match socket.read(&mut piece) {
            Ok(n) => {
                said.extend_from_slice(&piece[..n]);
                said.ends_with(b"\r\n")
            }
            Err(_) => false,
        }
    });
    assert_eq!(
        String::from_utf8_lossy(&said),
        "-ERR the value came too slowly (client_min_kb_s)\r\n"
    );
    assert_eq!(server.metric("scatterhoard_ended_clients_total"), 1.0);
}

#[test]
fn who_takes_a_value_by_the_byte_is_ended() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let () = client.set("k", vec![7; 48 << 20]).unwrap();
    let mut socket = server.socket();
    socket.write_all(b"GET k\r\n").unwrap();
    socket.set_read_timeout(Some(CLIENT_LIMIT)).unwrap();
    until("it is ended", Duration::from_secs(150), || {
        socket.read_exact(&mut [0; 100]).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        server.metric("scatterhoard_ended_clients_total") > 0.0
    });
    let ended = server.admin("GET", "/metrics");
    let slow = "scatterhoard_ended_clients_total{reason=\"slow_reader\"} 1";
    assert!(ended.contains(slow), "{ended}");
}

#[test]
fn clients_are_as_many_as_files_may_be_open() {
    let server = Server::start_with_open_files(1200, &[]);
    let mut client = server.client();
    let shown = ask(&mut client, "CONFIG GET maxclients");
    let digits: String = shown.chars().filter(char::is_ascii_digit).collect();
    let max_clients: usize = digits.parse().unwrap();
    assert!((100..1000).contains(&max_clients), "{shown}");
    assert!(server.log().contains("fewer clients are served"));
}

#[test]
fn replies_have_bounds_and_the_slow_log_only_what_was_carried_out() {
    let server = Server::start(&["--slowlog-log-slower-than", "0"]);
    let mut client = server.client();
    let () = client.hset("h", "f", vec![7; 1 << 20]).unwrap();
    let said = ask(&mut client, "HRANDFIELD h -1000 WITHVALUES");
    assert_eq!(
        said,
        "ERR the fields and values asked for are too long together"
    );
    let fields: Vec<String> = redis::cmd("HRANDFIELD")
        .arg("h")
        .arg(-1000)
        .query(&mut client)
        .unwrap();
    assert_eq!(fields.len(), 1000);
    let said = ask(&mut client, &format!("COMMAND INFO{}", " get".repeat(2000)));
    assert!(said.starts_with("ERR too many names"), "{said}");
    let () = redis::cmd("SLOWLOG")
        .arg("RESET")
        .query(&mut client)
        .unwrap();
    ask(&mut client, "NOTHING secret");
    ask(&mut client, "GET too many arguments");
    ask(&mut client, "ACL SETUSER al on >secret");
    ask(&mut client, "ECHO said");
    let log = ask(&mut client, "SLOWLOG GET 10");
    assert!(log.contains("said") && log.contains("(redacted)"), "{log}");
    assert!(!log.contains("secret") && !log.contains("many"), "{log}");
}

#[test]
fn the_admin_port_does_nothing_for_pages_of_others() {
    let server = Server::start(&[]);
    let reclaim = |headers: &str| server.admin_answers("POST", "/pool/reclaim?count=0", headers);
    let own = format!("host: {}", server.admin);
    assert!(reclaim(&own).starts_with("HTTP/1.1 200"));
    for headers in [
        "host: evil.example".to_owned(),
        format!("{own}\r\norigin: http://evil.example"),
    ] {
        assert!(reclaim(&headers).starts_with("HTTP/1.1 403"), "{headers}");
    }
}
