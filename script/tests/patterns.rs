//! Our string patterns match what Lua's own do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use bytes::Bytes;
use mlua::{Lua, Table, Value};
use proptest::prelude::*;
use scatterhoard_script::{Engine, Limits, Reply, Run, Script, Stop};
use support::Echo;

const SOURCE: &str = "
local s, p, r = ARGV[1], ARGV[2], ARGV[3]
local out = {}
local function note(ok, ...)
  out[#out + 1] = tostring(ok)
  for i = 1, select('#', ...) do out[#out + 1] = tostring((select(i, ...))) end
end
note(pcall(string.find, s, p))
note(pcall(string.find, s, p, 3))
note(pcall(string.find, s, p, -2))
note(pcall(string.find, s, p, 1, true))
note(pcall(string.match, s, p))
note(pcall(string.gsub, s, p, r))
note(pcall(string.gsub, s, p, '<%0>', 2))
note(pcall(string.gsub, s, p, {a = 'A', ab = false}))
note(pcall(string.gsub, s, p, function(a, b) return b end))
note(pcall(function() for a, b in string.gmatch(s, p) do note(a, b) end end))
return table.concat(out, ' ')";

/// What Lua's own library says.
fn reference(lua: &Lua, argv: &[Bytes]) -> Vec<u8> {
    let table: Table = lua.create_table().unwrap();
    for (index, arg) in argv.iter().enumerate() {
        table
            .raw_set(index + 1, lua.create_string(arg).unwrap())
            .unwrap();
    }
    lua.globals().raw_set("ARGV", table).unwrap();
    match lua.load(SOURCE).set_name("@user_script").eval().unwrap() {
        Value::String(text) => text.as_bytes().to_vec(),
        other => format!("{other:?}").into_bytes(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn match_as_in_lua(
        text in "[ab.\\]%^1\u{0}]{0,14}",
        pattern in "(\\^?)([ab.]|%[abdwzAW%.1]|%b[ab][ab]|%f\\[[ab]\\]|\\[\\^?[]ab%.-]{1,4}\\]|[ab.][*+?-]|\\(|\\)|\\(\\)|[ab.%$\\[\\]^\u{0}-]){0,6}(\\$?)",
        with in "[ab%0-3]{0,4}",
    ) {
        thread_local! {
            static BOTH: (Engine, Lua) = (Engine::new(Limits::default()), Lua::new());
        }
        let argv = [text, pattern, with].map(Bytes::from);
        let script = Script::new(Bytes::from_static(SOURCE.as_bytes())).unwrap();
        let (ours, theirs) = BOTH.with(|(engine, lua)| {
            let run = Run { script: &script, keys: &[], argv: &argv, read_only: false, stop: &Stop::new() };
            (engine.run(run, &mut Echo::default()), reference(lua, &argv))
        });
        let Reply::Bulk(ours) = ours else {
            return Err(TestCaseError::fail(support::text(&ours)));
        };
        prop_assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
    }
}
