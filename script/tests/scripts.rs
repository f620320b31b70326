//! Scripts as a whole: what they see, what they return, how they end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use bytes::Bytes;
use scatterhoard_script::{Engine, Limits, LogLevel, Reply, Run, Script, Stop};
use support::{Echo, run, text};

#[test]
fn values_go_both_ways() {
    for (script, reply) in [
        ("return 1", ":1"),
        (
            "return {1,2,{3,nil,4},'a',1.9,true,false}",
            "[:1 :2 [:3] $a :1 :1 nil]",
        ),
        ("return {KEYS[1], ARGV[1], #ARGV}", "[$k $a :2]"),
        ("return redis.call('GET', 'x')", "$GET x"),
        ("return redis.call('OK')", "+OK"),
        ("return type(redis.call('NIL'))", "$boolean"),
        ("redis.setresp(3) return type(redis.call('NIL'))", "$nil"),
        // without RESP3, as RESP2 has it
        ("return redis.call('MAP')", "[$k $1.5]"),
        ("redis.setresp(3) return redis.call('MAP')", "%[$k ,1.5]"),
        ("redis.setresp(3) return {true, false}", "[#true #false]"),
        ("return cjson.encode({1,2,{a=1}})", "$[1,2,{\"a\":1}]"),
        ("return cmsgpack.unpack(cmsgpack.pack('x'))", "$x"),
        ("return string.gsub('hello', 'l+', '<%0>')", "$he<ll>o"),
    ] {
        assert_eq!(text(&run(script)), reply, "{script}");
    }
}

#[test]
fn errors_name_the_place() {
    let source = "local function f()\n  return redis.call('FAIL')\nend\nreturn f() .. 'x'";
    let sha1 = Script::new(Bytes::from(source)).unwrap().sha1();
    let expected = format!("-WRONGTYPE that is wrong script: {sha1}, on @user_script:2.");
    assert_eq!(text(&run(source)), expected);
    assert_eq!(
        text(&run("return redis.pcall('FAIL')")),
        "-WRONGTYPE that is wrong"
    );
    // Redis itself dies of these
    assert!(text(&run("error({})")).starts_with("-ERR error object without a message script: "));
    assert!(text(&run("error(_G)")).starts_with("-ERR error object is a table script: "));
}

/// What the caller is asked.
fn asked(source: &'static str, read_only: bool) -> (Echo, Reply) {
    let script = Script::new(Bytes::from(source)).unwrap();
    let mut caller = Echo::default();
    let run = Run {
        script: &script,
        keys: &[],
        argv: &[],
        read_only,
        stop: &Stop::new(),
    };
    let reply = Engine::new(Limits::default()).run(run, &mut caller);
    (caller, reply)
}

#[test]
fn callers_are_told_what_the_script_may() {
    for (source, read_only, expected) in [
        ("redis.call('SET', 'k', 1)", false, false),
        ("redis.call('SET', 'k', 1)", true, true),
        (
            "#!lua flags=no-writes\nredis.call('SET', 'k', 1)",
            false,
            true,
        ),
        ("#!lua\nredis.call('SET', 'k', 1)", false, false),
    ] {
        let (caller, _) = asked(source, read_only);
        let [call] = &caller.calls[..] else {
            panic!("{source}: {:?}", caller.calls);
        };
        assert_eq!(call.read_only, expected, "{source}");
        assert_eq!(call.args, ["SET", "k", "1"].map(Bytes::from));
        assert!(!call.resp3);
    }
    let (caller, reply) = asked("#!lua\nredis.call('SET', 'k', 1)", true);
    assert!(caller.calls.is_empty());
    assert_eq!(
        text(&reply),
        "-ERR Can not execute a script with write flag using *_ro command."
    );
    let (caller, _) = asked("redis.setresp(3) redis.call('GET', 'k')", false);
    assert!(caller.calls[0].resp3);
}

#[test]
fn lines_are_logged() {
    let (caller, _) = asked("redis.log(redis.LOG_WARNING, 'a\\0b', 5, {}, 'c')", false);
    assert_eq!(caller.log, [(LogLevel::Warning, b"a\0b 5 c".to_vec())]);
}

#[test]
fn random_numbers_go_on_and_can_be_repeated() {
    let engine = Engine::new(Limits::default());
    let draw = |source: &str| text(&support::run_in(&engine, source));
    let plain = "return math.random(1000000000)";
    assert_ne!(draw(plain), draw(plain));
    let seeded = "math.randomseed(5) return math.random(1000000000)";
    assert_eq!(draw(seeded), draw(seeded));
}
