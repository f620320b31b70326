//! Scripts that mean harm: they end, with an error, and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use scatterhoard_script::{Engine, Limits, Reply, Run, Script, Stop};
use support::{Echo, run_in, text};

fn engine(time: Option<Duration>) -> Engine {
    Engine::new(Limits {
        memory_bytes: 16 << 20,
        time,
        idle_states: 4,
    })
}

const LOOPS: [&str; 23] = [
    "local t = {} for i = 1, 1e5 do t[i] = {} end while true do collectgarbage() end",
    "local t = {} for i = 1, 3e5 do t[i] = i end while true do table.insert(t, 1, 1) end",
    "local t = {} for i = 1, 3e5 do t[i] = i end while true do table.remove(t, 1) t[#t + 1] = 1 end",
    "local s = string.rep('x', 3e6) while true do redis.sha1hex(s) end",
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "while true do pcall(error) end",
    "local function f() while true do end end while true do xpcall(f, f) end",
    "xpcall(function() while true do end end, function() while true do end end)",
    "xpcall(error, function() while true do end end)",
    "local c = coroutine while true do c.resume(c.create(function() while true do end end)) end",
    "local c = coroutine.create local r = coroutine.resume
     local function deep(n) while true do if n > 0 then r(c(function() deep(n - 1) end)) end end end deep(20)",
    "while true do load(function() while true do end end) end",
    "while true do load(function() return ' ' end) end",
    "local f = coroutine.wrap(function() while true do coroutine.yield() end end) while true do pcall(f) end",
    "return setmetatable({}, {__index = function() while true do end end}).x",
    "return string.gsub('x', 'x', function() while true do end end)",
    "table.sort({3, 2, 1}, function() while true do end end)",
    "while true do pcall(redis.call, 'GET', 'x') end",
    "return string.find(string.rep('a', 50000), '.-.-.-.-b')",
    "return string.find(string.rep('a', 50000), string.rep('a*', 40) .. 'b')",
    "for x in string.gmatch(string.rep('a', 50000), '.-.-.-.-b') do end",
    "local s = string.rep('a', 1000000) while true do string.find(s, string.rep('a', 500000) .. 'b', 1, true) end",
];

#[test]
fn loops_end_at_the_time_limit() {
    let engine = engine(Some(Duration::from_millis(100)));
    for script in LOOPS {
        let began = Instant::now();
        let reply = text(&run_in(&engine, script));
        assert!(
            reply.starts_with("-ERR Script ended because it ran longer than its time limit"),
            "{script}: {reply}"
        );
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{script}: {:?}",
            began.elapsed()
        );
        assert_eq!(
            run_in(&engine, "return 1"),
            Reply::Integer(1),
            "after {script}"
        );
    }
}

#[test]
fn a_kill_from_another_thread_ends_them_too() {
    let engine = engine(None);
    for source in LOOPS {
        let script = Script::new(Bytes::from(source)).unwrap();
        let stop = Stop::new();
        let reply = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::park_timeout(Duration::from_millis(50));
                stop.kill();
            });
            let run = Run {
                script: &script,
                keys: &[],
                argv: &[],
                read_only: false,
                stop: &stop,
            };
            engine.run(run, &mut Echo::default())
        });
        let reply = text(&reply);
        assert!(
            reply.starts_with("-ERR Script killed by user with SCRIPT KILL..."),
            "{source}: {reply}"
        );
    }
    let place = text(&run_killed(&engine, "\n\nwhile true do end"));
    assert!(place.contains(", on @user_script:3."), "{place}");
}

fn run_killed(engine: &Engine, source: &'static str) -> Reply {
    let script = Script::new(Bytes::from(source)).unwrap();
    let stop = Stop::new();
    stop.kill();
    engine.run(
        Run {
            script: &script,
            keys: &[],
            argv: &[],
            read_only: false,
            stop: &stop,
        },
        &mut Echo::default(),
    )
}

#[test]
fn memory_is_bounded() {
    let engine = Engine::new(Limits {
        memory_bytes: 4 << 20,
        ..Limits::default()
    });
    for script in [
        "return string.rep('x', 1e9)",
        "return string.rep('x', 2^31 - 1)",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = {} end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} while true do t = {t} end",
        "local s = string.rep('x', 1e6) local t = {} for i = 1, 1000 do t[i] = s end return table.concat(t)",
        "local s = string.rep('x', 1e6) return string.gsub(s, 'x', s)",
        "local s = string.rep('x', 1e6) local t = {} for i = 1, 1000 do t[i] = s end return cjson.encode(t)",
        "local s = string.rep('x', 1e6) local t = {} for i = 1, 1000 do t[i] = s end return cmsgpack.pack(t)",
        "local s = string.rep('x', 1e6) local t = {} for i = 1, 1000 do t[i] = s end return t",
        "local t = {} for i = 1, 40 do t = {t, t} end return t",
        "local t = {} for i = 1, 40 do t = {t, t} end return cjson.encode(t)",
        "cjson.encode_sparse_array(false, 0) return cjson.encode({[2000000000] = 1})",
        "return struct.pack(string.rep('c0', 1000), unpack((function() local t = {} for i = 1, 1000 do t[i] = string.rep('x', 1e6) end return t end)()))",
    ] {
        let reply = text(&run_in(&engine, script));
        assert!(
            reply.starts_with('-') && reply.contains("memory"),
            "{script}: {}",
            &reply[..reply.len().min(300)]
        );
        assert_eq!(
            run_in(&engine, "return 1"),
            Reply::Integer(1),
            "after {script}"
        );
    }
    // garbage is none
    let garbage = "for i = 1, 100000 do local s = string.rep('x', 1000) .. i end return 1";
    assert_eq!(text(&run_in(&engine, garbage)), ":1");
    // a script may go on after it has caught one
    let caught = "local ok, e = pcall(string.rep, 'x', 1e9) return {tostring(ok), e}";
    assert_eq!(
        text(&run_in(&engine, caught)),
        "[$false $not enough memory]"
    );
}

#[test]
fn depth_is_bounded() {
    let engine = engine(Some(Duration::from_secs(20)));
    for (script, part) in [
        (
            "return string.find(string.rep('a', 300000), string.rep('a?', 300000))",
            "pattern too complex",
        ),
        (
            "return string.match(string.rep('(', 300000), string.rep('%(*', 300000))",
            "pattern too complex",
        ),
        (
            "local function f() return 1 + f() end return f()",
            "stack overflow",
        ),
        (
            "return cjson.decode(string.rep('[', 1e6))",
            "too many nested",
        ),
        (
            "return cmsgpack.unpack(string.rep('\\145', 1e6))",
            "too many return values",
        ),
        (
            "return cmsgpack.unpack(string.rep('\\1', 1e5))",
            "too many return values",
        ),
        (
            "local t = {} t[1] = t return cjson.encode(t)",
            "excessive nesting",
        ),
        (
            "return loadstring('return ' .. string.rep('(', 1e5))() ",
            "-ERR",
        ),
        (
            "return loadstring('return ' .. string.rep('{', 1e5))() ",
            "-ERR",
        ),
        (
            "local f = function() return 1 end for i = 1, 1e5 do local g = f f = function() return g() + 1 end end return f()",
            "stack overflow",
        ),
        (
            "local t = {} for i = 1, 1e5 do t = setmetatable({}, {__index = t}) end return t.x",
            "loop in gettable",
        ),
        (
            "local function p(n) return pcall(p, n + 1) end return {p(1)}",
            "",
        ),
        (
            "local c = coroutine local function f() return c.wrap(f)() end return f()",
            "-ERR",
        ),
        (
            "return cmsgpack.pack(unpack((function() local t = {} for i = 1, 7000 do t[i] = 'x' end return t end)()))",
            "too many arguments",
        ),
        (
            "return struct.unpack(string.rep('b', 1e5), string.rep('x', 1e5))",
            "too many results",
        ),
    ] {
        let reply = text(&run_in(&engine, script));
        assert!(
            reply.contains(part),
            "{script}: {}",
            &reply[..reply.len().min(300)]
        );
        assert_eq!(
            run_in(&engine, "return 1"),
            Reply::Integer(1),
            "after {script}"
        );
    }
    // as deep as C functions nest, then as deep as a pattern goes
    let stacked = "local deepest = 0
        local function f(n)
          deepest = n
          pcall(string.find, string.rep('a', 1000), string.rep('a?', 1000))
          pcall(cjson.decode, string.rep('[', 1000))
          return (string.gsub('x', 'x', function() f(n + 1) end))
        end
        pcall(f, 1) return deepest > 20 and 1 or deepest";
    assert_eq!(text(&run_in(&engine, stacked)), ":1");
    let nested = text(&run_in(&engine, "local t = {} t[1] = t return t"));
    assert!(nested.contains("-ERR reached lua stack limit"), "{nested}");
}

#[test]
fn compiled_code_is_refused() {
    let engine = engine(None);
    for script in [
        "return {loadstring(string.dump(function() return 7 end))}",
        "local code = string.dump(function() return 7 end) local done
         return {load(function() if not done then done = true return code end end)}",
        "local code = string.dump(function() return 7 end) local at = 0
         return {load(function() at = at + 1 if at <= #code then return code:sub(at, at) end end)}",
    ] {
        assert_eq!(text(&run_in(&engine, script)), "[]", "{script}");
    }
    let reply = text(&run_in(&engine, "\u{1b}Lua"));
    assert!(
        reply.starts_with("-ERR Error compiling script (new function)"),
        "{reply}"
    );
}

/// What a script could change, and how another would see it.
const CHANGES: [&str; 32] = [
    "x = 1",
    "_G.x = 1",
    "rawset(_G, 'x', 1)",
    "string.x = 1",
    "rawset(string, 'x', 1)",
    "string.rep = nil",
    "setmetatable(_G, nil)",
    "setmetatable(string, {})",
    "getmetatable(_G).__index = nil",
    "getmetatable('').__index = {}",
    "rawset(getmetatable(''), '__index', {})",
    "getmetatable('').__index.rep = 1",
    "table.insert(string, 1)",
    "table.insert(_G, 1)",
    "table.insert(redis, 1, 1)",
    "redis.call = print",
    "redis.x = 1",
    "KEYS = 1",
    "collectgarbage('stop')",
    "collectgarbage('setpause', 1000)",
    "cjson.encode_max_depth(1)",
    "cjson.decode_max_depth(1)",
    "cjson.encode_invalid_numbers(true)",
    "cjson.encode_sparse_array(true)",
    "cjson.encode_number_precision(3)",
    "cjson.null = 1",
    "redis.setresp(3)",
    "math.randomseed(7)",
    "coroutine.wrap(function() string.x = 1 end)()",
    "error(string)",
    "error(_G)",
    "local e = redis.pcall('FAIL') e.x = 1 error(redis)",
];

const LOOK: &str = "
local function keys(t) local k = {} for n, v in pairs(t) do k[#k+1] = tostring(n) .. type(v) end table.sort(k) return table.concat(k, ' ') end
local raw = {} for _, t in ipairs({_G, string, table, math, redis, cjson, bit, struct, cmsgpack, coroutine}) do
  raw[#raw+1] = keys(t) .. '|' .. #t .. '|' .. tostring(rawget(t, 1)) .. tostring(rawget(t, 'x')) .. tostring(rawget(t, 'err')) .. tostring(rawget(t, 'line'))
end
return {raw, keys(getmetatable('')), keys(getmetatable(_G)), tostring(getmetatable(string)), ('x'):rep(3),
  cjson.encode_max_depth(), cjson.decode_max_depth(), cjson.encode(math.pi), {cjson.encode_sparse_array()},
  tostring(cjson.encode_invalid_numbers()), tostring(pcall(function() return x end)), true, KEYS, ARGV,
  tostring(pcall(cjson.encode, {[1]=1,[100]=1}))}";

#[test]
fn nothing_of_a_run_is_seen_by_the_next() {
    // one state, so that the next run has the last one's
    let engine = Engine::new(Limits {
        idle_states: 1,
        ..Limits::default()
    });
    let before = run_in(&engine, LOOK);
    assert!(matches!(before, Reply::Array(_)), "{}", text(&before));
    for change in CHANGES {
        run_in(&engine, change);
        run_in(&engine, &format!("pcall(function() {change} end) return 1"));
        let after = run_in(&engine, LOOK);
        assert_eq!(text(&after), text(&before), "after {change}");
    }
}

#[test]
fn scripts_run_side_by_side() {
    let engine = engine(Some(Duration::from_secs(20)));
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let engine = &engine;
            scope.spawn(move || {
                for round in 0..200 {
                    let script = format!(
                        "local t = {{}} for i = 1, 100 do t[i] = {thread} * {round} + i end
                         redis.call('SET', KEYS[1], t[100])
                         return {{t[1], cjson.decode(cjson.encode(t))[100], redis.call('GET', '{thread}')}}"
                    );
                    let base = thread * round;
                    let expected = format!("[:{} :{} $GET {thread}]", base + 1, base + 100);
                    assert_eq!(text(&run_in(engine, &script)), expected);
                    if round % 50 == 0 {
                        let bomb = text(&run_in(engine, "return string.rep('x', 1e9)"));
                        assert!(bomb.contains("memory"), "{bomb}");
                    }
                }
            });
        }
    });
}
