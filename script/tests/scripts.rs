//! Scripts as a whole: what they see, what they return, how they end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{run, text};

#[test]
fn smoke() {
    for (script, reply) in [
        ("return 1", ":1"),
        (
            "return {1,2,{3,nil,4},'a',1.9,true,false}",
            "[:1 :2 [:3] $a :1 :1 nil]",
        ),
        ("return redis.call('GET', 'x')", "$GET x"),
        ("return {KEYS[1], ARGV[1], #ARGV}", "[$k $a :2]"),
        ("return cjson.encode({1,2,{a=1}})", "$[1,2,{\"a\":1}]"),
        ("return cmsgpack.unpack(cmsgpack.pack('x'))", "$x"),
        ("return string.gsub('hello', 'l+', '<%0>')", "$he<ll>o"),
    ] {
        assert_eq!(text(&run(script)), reply, "{script}");
    }
}
