//! Examples; the laws are in `tests/resp_properties.rs`, the comparison with a
//! real server in `tests/resp_oracle.rs`.

use bytes::Bytes;

use super::connection::{ClientAttribute, ClientCommand, Credentials, Hello};
use super::describe::CommandQuery;
use super::expiry::{ExpireCondition, TtlQuery};
use super::keys::Scan;
use super::strings::{Set, SetAnswer, SetCondition};
use super::table::{MAX_KEY_BYTES, commands, lookup};
use super::*;
use crate::resp::{Protocol, Reply};

fn request(line: &str) -> Vec<Value> {
    line.split(' ')
        .map(|word| Value::from(Bytes::copy_from_slice(word.as_bytes())))
        .collect()
}

fn parse(line: &str) -> Command {
    Command::parse(request(line)).unwrap()
}

fn error(line: &str) -> String {
    Command::parse(request(line)).unwrap_err().to_string()
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn set(line: &str) -> (SetCondition, Expiry, SetAnswer) {
    match parse(line) {
        Command::String(StringCommand::Set(Set {
            key,
            value,
            condition,
            expiry,
            answer,
        })) => {
            assert_eq!((&key[..], value), (&b"k"[..], "v".into()));
            (condition, expiry, answer)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_way_to_set_a_value() {
    use {Expiry::*, SetAnswer::*, SetCondition::*};
    assert_eq!(set("SET k v"), (Always, None, Ok));
    assert_eq!(set("set k v nx px 5"), (IfAbsent, In { ms: 5 }, Ok));
    assert_eq!(set("SET k v GET XX KEEPTTL"), (IfPresent, Keep, OldValue));
    assert_eq!(set("SET k v EX 2"), (Always, In { ms: 2000 }, Ok));
    assert_eq!(set("SET k v EXAT 2"), (Always, At { unix_ms: 2000 }, Ok));
    assert_eq!(
        set("SET k v PXAT 2 PXAT 3"),
        (Always, At { unix_ms: 3 }, Ok)
    );
    assert_eq!(set("SETEX k 3 v"), (Always, In { ms: 3000 }, Ok));
    assert_eq!(set("PSETEX k 3 v"), (Always, In { ms: 3 }, Ok));
    assert_eq!(set("SETNX k v"), (IfAbsent, None, Count));
    assert_eq!(set("GETSET k v"), (Always, None, OldValue));
}

#[test]
fn what_set_refuses() {
    for conflict in [
        "NX XX",
        "XX NX",
        "EX",
        "EX 1 PX 1",
        "KEEPTTL EX 1",
        "EX 1 KEEPTTL",
        "PERSIST",
        "EX x FOO",
    ] {
        assert_eq!(
            error(&format!("SET k v {conflict}")),
            "ERR syntax error",
            "{conflict}"
        );
    }
    assert_eq!(
        error("SET k v EX x"),
        "ERR value is not an integer or out of range"
    );
    for time in [
        "EX 0",
        "PX -1",
        "EX 9223372036854775",
        "EX 9223372036854776",
        "PX 9223372036854775807",
    ] {
        let text = error(&format!("SET k v {time}"));
        assert_eq!(text, "ERR invalid expire time in 'set' command", "{time}");
    }
    assert_eq!(
        error("SETEX k 0 v"),
        "ERR invalid expire time in 'setex' command"
    );
}

#[test]
fn a_bad_time_for_getex_matters_only_if_there_is_such_a_key() {
    let Command::String(StringCommand::GetEx { expiry, .. }) = parse("GETEX k PX 0") else {
        unreachable!("parsed as GETEX")
    };
    let text = expiry.unwrap_err().to_string();
    assert_eq!(text, "ERR invalid expire time in 'getex' command");
    assert_eq!(error("GETEX k EX 1 PERSIST"), "ERR syntax error");
}

#[test]
fn values_stay_in_segments_and_keys_are_bounded() {
    let segments = vec![Bytes::from(vec![1; 70_000]), Bytes::from(vec![2; 70_000])];
    let value = Value::from_segments(segments.clone());
    let parsed = Command::parse(vec!["SET".into(), "k".into(), value.clone()]);
    let Ok(Command::String(StringCommand::Set(set))) = parsed else {
        panic!("{parsed:?}")
    };
    assert_eq!(set.value.segments(), segments);
    let text = "ERR key is longer than 65534 bytes";
    let long = Command::parse(vec!["GET".into(), value]).unwrap_err();
    assert_eq!(long.to_string(), text);
    let edge = |len: usize| Command::parse(vec!["GET".into(), Bytes::from(vec![0; len]).into()]);
    assert!(edge(MAX_KEY_BYTES).is_ok());
    assert_eq!(edge(MAX_KEY_BYTES + 1).unwrap_err().to_string(), text);
}

#[test]
fn deadlines() {
    assert_eq!(Expiry::None.deadline(5, Some(9)), None);
    assert_eq!(Expiry::Keep.deadline(5, Some(9)), Some(9));
    assert_eq!(Expiry::In { ms: 7 }.deadline(5, None), Some(12));
    assert_eq!(Expiry::At { unix_ms: 1 }.deadline(5, None), Some(1));
}

fn expire(line: &str) -> (Expiry, ExpireCondition) {
    match parse(line) {
        Command::Key(KeyCommand::Expire {
            expiry, condition, ..
        }) => (expiry, condition),
        other => panic!("{other:?}"),
    }
}

#[test]
fn expire_and_its_conditions() {
    use {ExpireCondition::*, Expiry::*};
    let past = At { unix_ms: 0 };
    assert_eq!(expire("EXPIRE k 10"), (In { ms: 10_000 }, Always));
    assert_eq!(expire("PEXPIRE k -1 XX"), (past, IfSome));
    assert_eq!(
        expire("EXPIREAT k 10 XX GT"),
        (At { unix_ms: 10_000 }, IfLater)
    );
    assert_eq!(expire("PEXPIREAT k -5 LT"), (past, IfEarlier));
    assert_eq!(
        expire("EXPIRE k 0 lt xx lt"),
        (In { ms: 0 }, IfSomeAndEarlier)
    );
    assert_eq!(expire("EXPIRE k 0 NX NX"), (In { ms: 0 }, IfNone));
    let nx = "ERR NX and XX, GT or LT options at the same time are not compatible";
    assert_eq!(error("EXPIRE k x NX GT LT"), nx);
    let gt_lt = "ERR GT and LT options at the same time are not compatible";
    assert_eq!(error("EXPIRE k 1 XX GT LT"), gt_lt);
    assert_eq!(error("EXPIRE k x foo"), "ERR Unsupported option foo");
    let overflow = "ERR invalid expire time in 'expire' command";
    for number in [
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775",
    ] {
        assert_eq!(error(&format!("EXPIRE k {number}")), overflow);
    }
}

#[test]
fn no_expiry_counts_as_infinity() {
    use ExpireCondition::*;
    let allowed = |condition: ExpireCondition| {
        [None, Some(4), Some(5), Some(6)].map(|present| condition.allows(present, 5))
    };
    assert_eq!(allowed(Always), [true, true, true, true]);
    assert_eq!(allowed(IfNone), [true, false, false, false]);
    assert_eq!(allowed(IfSome), [false, true, true, true]);
    assert_eq!(allowed(IfLater), [false, true, false, false]);
    assert_eq!(allowed(IfEarlier), [true, false, false, true]);
    assert_eq!(allowed(IfSomeAndEarlier), [false, false, false, true]);
}

#[test]
fn ttl_answers() {
    let ask = |absolute, millis| TtlQuery { absolute, millis }.answer(Some(12_499), 10_000);
    assert_eq!(
        [
            ask(false, false),
            ask(false, true),
            ask(true, false),
            ask(true, true)
        ],
        [2, 2499, 12, 12_499]
    );
    assert_eq!(
        TtlQuery {
            absolute: false,
            millis: false
        }
        .answer(None, 1),
        TtlQuery::NO_EXPIRY
    );
    assert_eq!(
        TtlQuery {
            absolute: false,
            millis: true
        }
        .answer(Some(1), 2),
        0
    );
}

#[test]
fn scan_options() {
    let scan = |line: &str| match parse(line) {
        Command::Key(KeyCommand::Scan(scan)) => scan,
        other => panic!("{other:?}"),
    };
    let plain = Scan {
        cursor: 0,
        pattern: None,
        count: 10,
        kind: None,
    };
    assert_eq!(scan("SCAN 0"), plain);
    let full = Scan {
        cursor: u64::MAX,
        pattern: Some(bytes("a*")),
        count: 3,
        kind: Some(bytes("string")),
    };
    assert_eq!(
        scan("SCAN 18446744073709551615 MATCH a* count 3 TYPE string"),
        full
    );
    assert_eq!(error("SCAN x"), "ERR invalid cursor");
    assert_eq!(error("SCAN 0 COUNT 0"), "ERR syntax error");
    assert_eq!(
        error("SCAN 0 COUNT x"),
        "ERR value is not an integer or out of range"
    );
}

#[test]
fn unknown_commands_are_quoted_up_to_128_bytes() {
    assert_eq!(
        error("foo a b"),
        "ERR unknown command 'foo', with args beginning with: 'a' 'b' "
    );
    assert_eq!(
        error("foo"),
        "ERR unknown command 'foo', with args beginning with: "
    );
    let long = "x".repeat(200);
    let text = error(&format!("{long} a {long} b"));
    let (x128, x124) = ("x".repeat(128), "x".repeat(124));
    let expected = format!("ERR unknown command '{x128}', with args beginning with: 'a' '{x124}' ");
    assert_eq!(text, expected);
    for never in [
        "REPLICAOF a b",
        "SLAVEOF a b",
        "MIGRATE a",
        "DEBUG SLEEP 1",
        "MODULE LIST",
    ] {
        assert!(error(never).starts_with("ERR unknown command"), "{never}");
    }
}

#[test]
fn arity_and_subcommands() {
    assert_eq!(
        error("GeT"),
        "ERR wrong number of arguments for 'get' command"
    );
    assert_eq!(
        error("mset a b c"),
        "ERR wrong number of arguments for 'mset' command"
    );
    assert_eq!(
        error("client"),
        "ERR wrong number of arguments for 'client' command"
    );
    assert_eq!(
        error("client setname"),
        "ERR wrong number of arguments for 'client|setname' command"
    );
    assert_eq!(
        error("config foo"),
        "ERR unknown subcommand 'foo'. Try CONFIG HELP."
    );
}

#[test]
fn connection_commands() {
    let connection = |line: &str| match parse(line) {
        Command::Connection(command) => command,
        other => panic!("{other:?}"),
    };
    let hello = Hello {
        protocol: Some(Protocol::Resp3),
        auth: Some(Credentials {
            user: Some(bytes("u")),
            password: bytes("p"),
        }),
        name: Some(bytes("me")),
    };
    assert_eq!(
        connection("HELLO 3 AUTH u p SETNAME me"),
        ConnectionCommand::Hello(hello)
    );
    assert_eq!(
        connection("HELLO"),
        ConnectionCommand::Hello(Hello::default())
    );
    assert_eq!(error("HELLO 4"), "NOPROTO unsupported protocol version");
    assert_eq!(
        error("HELLO x"),
        "ERR Protocol version is not an integer or out of range"
    );
    assert_eq!(
        error("HELLO 2 AUTH u"),
        "ERR Syntax error in HELLO option 'AUTH'"
    );
    assert_eq!(connection("SELECT 7"), ConnectionCommand::Select { db: 7 });
    assert_eq!(error("SELECT -1"), "ERR DB index is out of range");
    let info = ClientCommand::SetInfo {
        attribute: ClientAttribute::LibName,
        value: bytes("x"),
    };
    assert_eq!(
        connection("CLIENT SETINFO lib-name x"),
        ConnectionCommand::Client(info)
    );
    let secret = Credentials {
        user: None,
        password: bytes("hunter2"),
    };
    assert!(!format!("{:?}", connection("AUTH hunter2")).contains("hunter2"));
    assert_eq!(connection("AUTH hunter2"), ConnectionCommand::Auth(secret));
}

#[test]
fn the_table_is_sorted_and_found_in_any_case() {
    assert!(commands().is_sorted_by_key(|spec| spec.name));
    for spec in commands() {
        let upper = spec.name.to_uppercase();
        assert_eq!(
            lookup(upper.as_bytes()).map(|found| found.name),
            Some(spec.name)
        );
        assert!(!spec.summary.is_empty() && !spec.since.is_empty());
    }
    assert!(lookup(b"").is_none());
    assert!(lookup(&[b'x'; 33]).is_none());
}

#[test]
fn command_finds_keys() {
    let keys = |line: &str| CommandQuery::GetKeys(request(line)).answer();
    let found = |keys: &[&'static str]| {
        Ok(Reply::Array(
            keys.iter().map(|key| Reply::Bulk((*key).into())).collect(),
        ))
    };
    assert_eq!(keys("mset a 1 b 2"), found(&["a", "b"]));
    assert_eq!(keys("del a b"), found(&["a", "b"]));
    assert_eq!(keys("set a b"), found(&["a"]));
    assert_eq!(keys("ping x"), Err(CommandError::GetKeysNone));
    assert_eq!(keys("get a b"), Err(CommandError::GetKeysArity));
    assert_eq!(keys("foo a"), Err(CommandError::GetKeysCommand));
}

#[test]
fn values_to_be_stored_are_known_before_they_arrive() {
    let next = |so_far: &str| {
        let args: Vec<Value> = so_far
            .split_whitespace()
            .map(|word| Value::from(Bytes::copy_from_slice(word.as_bytes())))
            .collect();
        super::stores_next(&args)
    };
    for yes in [
        "SET k",
        "setex k 10",
        "PSETEX k 10",
        "SETNX k",
        "GETSET k",
        "MSET k",
        "MSET k v k",
        "msetnx a b c",
    ] {
        assert!(next(yes), "{yes}");
    }
    for no in [
        "", "SET", "SET k v", "SETEX k", "MSET", "MSET k v", "GET", "ECHO", "NOSUCH k", "MGET a",
    ] {
        assert!(!next(no), "{no}");
    }
}

#[test]
fn requests_that_store_one_value_are_known() {
    let stores = |words: &str| {
        let args: Vec<Value> = words
            .split_whitespace()
            .map(|word| Value::from(Bytes::copy_from_slice(word.as_bytes())))
            .collect();
        super::stores_one(&args)
    };
    assert_eq!(stores("SET k v"), Some(2));
    assert_eq!(stores("SET k v EX 10"), Some(2));
    assert_eq!(stores("setex k 10 v"), Some(3));
    assert_eq!(stores("MSET k v"), Some(2));
    for no in [
        "MSET k v l w",
        "GET k",
        "SET k",
        "NOSUCH k v",
        "",
        "DEL a b",
    ] {
        assert_eq!(stores(no), None, "{no}");
    }
}

#[test]
fn a_request_that_has_begun_is_its_subcommand() {
    let words = |text: &str| -> Vec<Value> {
        let word = |w: &str| Value::from(bytes::Bytes::copy_from_slice(w.as_bytes()));
        text.split_whitespace().map(word).collect()
    };
    let begun = |text: &str, argc| CommandSpec::begun(&words(text), argc).map(|spec| spec.name);
    assert_eq!(begun("SET k", 3), Some("set"));
    assert_eq!(begun("SCRIPT LOAD", 3), Some("script|load"));
    for (text, argc) in [
        ("SCRIPT", 3),
        ("SCRIPT X", 3),
        ("SCRIPT LOAD", 4),
        ("X", 2),
        ("", 1),
        ("GET", 3),
    ] {
        assert_eq!(begun(text, argc), None, "{text} {argc}");
    }
    let takes = |text: &str, len| {
        let args = words(text);
        let spec = CommandSpec::begun(&args, args.len() + 1);
        spec.is_some_and(|spec| spec.takes_long(args.len(), len))
    };
    for text in [
        "SET k",
        "MSET k v k",
        "ECHO",
        "PUBLISH c",
        "APPEND k",
        "HSET k f",
        "HGET k",
        "SCRIPT LOAD",
    ] {
        assert!(takes(text, 1 << 20), "{text}");
    }
    for text in [
        "GET",
        "DEL a",
        "SET k v",
        "MSET k v",
        "SUBSCRIBE",
        "INCRBY k",
        "HSCAN k",
        "PUBLISH",
    ] {
        assert!(!takes(text, 1 << 20), "{text}");
    }
    assert!(!takes("SCRIPT LOAD", 5 << 20) && !takes("EVAL", 5 << 20));
}

#[test]
fn what_was_not_taken_in_is_never_carried_out() {
    let refused = || Value::Refused {
        start: bytes::Bytes::from_static(b"start"),
        len: 1 << 20,
    };
    let parse = |name: &'static str| Command::parse(vec![name.into(), refused()]);
    assert_eq!(parse("GET"), Err(CommandError::KeyTooLong));
    let too_long = CommandError::ArgumentTooLong { command: "echo" };
    assert_eq!(parse("ECHO"), Err(too_long));
}
