//! Passwords and users over real sockets.

use redis::Commands;

use crate::server::Server;

fn said(reply: redis::RedisResult<redis::Value>) -> String {
    match reply {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!(
            "{} {}",
            error.code().unwrap_or_default(),
            error.detail().unwrap_or_default()
        ),
    }
}

fn log_in(connection: &mut redis::Connection, name: &str, password: &str) -> String {
    said(redis::cmd("AUTH").arg(name).arg(password).query(connection))
}

#[test]
fn nothing_is_done_before_the_password() {
    let server = Server::start(&["--requirepass", "s3cret"]);
    let mut client = server.client();
    let ask = |client: &mut redis::Connection, word: &str| said(redis::cmd(word).query(client));
    assert_eq!(ask(&mut client, "PING"), "NOAUTH Authentication required.");
    assert_eq!(ask(&mut client, "MULTI"), "NOAUTH Authentication required.");
    assert!(ask(&mut client, "HELLO").starts_with("NOAUTH HELLO must be called"));
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(log_in(&mut client, "default", "s3cre"), wrong);
    assert_eq!(log_in(&mut client, "nobody", "s3cret"), wrong);
    assert_eq!(
        ask(&mut client, "DBSIZE"),
        "NOAUTH Authentication required."
    );
    let () = redis::cmd("AUTH").arg("s3cret").query(&mut client).unwrap();
    assert_eq!(ask(&mut client, "PING"), "simple-string(\"PONG\")");
    let () = redis::cmd("RESET").query(&mut client).unwrap();
    assert_eq!(ask(&mut client, "PING"), "NOAUTH Authentication required.");
    // strangers can have nothing large taken in
    let mut stranger = server.socket();
    let header = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000000\r\n";
    std::io::Write::write_all(&mut stranger, header.as_bytes()).unwrap();
    let mut words = String::new();
    std::io::Read::read_to_string(&mut stranger, &mut words).unwrap();
    assert_eq!(
        words,
        "-ERR Protocol error: unauthenticated bulk length\r\n"
    );
    let log = server.log();
    assert!(!log.contains("s3cre"), "{log}");
}

#[test]
fn users_may_do_what_their_rules_say() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.acl");
    std::fs::write(
        &file,
        "# who\nuser default off\nuser al on >pw ~c:* &ch* +@read +@write +@transaction +@pubsub -flushall\n",
    )
    .unwrap();
    let server = Server::start(&["--acl-file", file.to_str().unwrap()]);
    let mut client = server.client();
    assert!(said(client.get("c:1")).starts_with("NOAUTH"));
    log_in(&mut client, "al", "pw");
    let () = client.set("c:1", vec![1u8; 300_000]).unwrap();
    let got: Vec<u8> = client.get("c:1").unwrap();
    assert_eq!(got.len(), 300_000);
    let no_key = "NOPERM this user has no permissions to access one of the keys used as arguments";
    assert_eq!(said(client.set("d", 1)), no_key);
    // a value that streams in is refused, too, and nothing of it stays
    assert_eq!(said(client.set("d", vec![1u8; 3_000_000])), no_key);
    assert_eq!(
        said(redis::cmd("FLUSHALL").query(&mut client)),
        "NOPERM this user has no permissions to run the 'flushall' command"
    );
    let no_channel =
        "NOPERM this user has no permissions to access one of the channels used as arguments";
    assert_eq!(said(client.publish("x", 1)), no_channel);
    assert_eq!(said(client.publish("ch1", 1)), "int(0)");
    // what is not allowed spoils a transaction
    let transaction: redis::RedisResult<()> = redis::pipe()
        .atomic()
        .set("c:2", 1)
        .set("d:2", 1)
        .query(&mut client);
    assert!(transaction.is_err());
    let there: bool = client.exists("c:2").unwrap();
    assert!(!there);
}

#[test]
fn large_arguments_belong_to_subcommands_and_refusals_to_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.acl");
    let users = "user default off\nuser al on >pw ~c:* +script|load +evalsha +set +del +ping +multi +exec\n";
    std::fs::write(&file, users).unwrap();
    let server = Server::start(&["--acl-file", file.to_str().unwrap()]);
    let mut client = server.client();
    let long_key = "c:".repeat(1_500_000);
    log_in(&mut client, "al", "pw");
    let script = format!("return '{}'", "x".repeat(200_000));
    let sha1: String = redis::cmd("SCRIPT")
        .arg("LOAD")
        .arg(&script)
        .query(&mut client)
        .unwrap();
    let said_by_it: String = redis::cmd("EVALSHA")
        .arg(sha1)
        .arg(0)
        .query(&mut client)
        .unwrap();
    assert_eq!(said_by_it.len(), 200_000);
    // refused at their headers, answered in their places
    let replies: Vec<redis::RedisResult<redis::Value>> = redis::pipe()
        .cmd("SET")
        .arg("c:1")
        .arg(vec![1u8; 300_000])
        .cmd("SET")
        .arg("d:1")
        .arg(vec![1u8; 3_000_000])
        .cmd("DEL")
        .arg(&long_key)
        .cmd("SCRIPT")
        .arg("LOAD")
        .arg(vec![1u8; 5_000_000])
        .cmd(&"x".repeat(100_000))
        .arg(vec![1u8; 3_000_000])
        .cmd("PING")
        .ignore_errors()
        .query(&mut client)
        .unwrap();
    let replies: Vec<String> = replies.into_iter().map(said).collect();
    let starts = [
        "ok",
        "NOPERM this user has no permissions to access one of the keys",
        "ERR key is longer than",
        "ERR script is longer than",
        "ERR unknown command 'xxx",
        "simple-string(\"PONG\")",
    ];
    assert_eq!(replies.len(), starts.len(), "{replies:?}");
    for (reply, start) in replies.iter().zip(starts) {
        assert!(reply.starts_with(start), "{reply}, not {start}");
    }
    // and they spoil a transaction
    let transaction: redis::RedisResult<()> = redis::pipe()
        .atomic()
        .cmd("DEL")
        .arg(&long_key)
        .query(&mut client);
    assert!(
        transaction
            .unwrap_err()
            .to_string()
            .contains("key is longer")
    );
    let denied = server.admin("GET", "/metrics");
    assert!(
        denied.contains("scatterhoard_denied_total{reason=\"key\"} 1"),
        "{denied}"
    );
}

#[test]
fn a_file_of_users_that_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.acl");
    std::fs::write(&file, "user al on +nonsense\n").unwrap();
    let output = crate::server::run(&["serve", "--acl-file", file.to_str().unwrap()]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("line 1: rule '+nonsense' names no command"),
        "{said}"
    );
}
