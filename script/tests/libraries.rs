//! Laws of the libraries, on values that nobody thought of.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use scatterhoard_script::{Engine, Limits, Reply, Run, Script, Stop};
use support::Echo;

/// A value that both JSON and MessagePack can carry.
#[derive(Clone, Debug)]
enum Tree {
    Truth(bool),
    Number(f64),
    Text(Vec<u8>),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Tree::Truth),
        (-1_000_000_i32..1_000_000).prop_map(|number| Tree::Number(number.into())),
        (-1_000_000_i32..1_000_000).prop_map(|number| Tree::Number(f64::from(number) / 64.0)),
        vec(any::<u8>(), 0..40).prop_map(Tree::Text),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..8).prop_map(Tree::List),
            btree_map("[a-z]{1,8}", inner, 1..8)
                .prop_map(|map| Tree::Map(map.into_iter().collect())),
        ]
    })
}

/// As a Lua expression.
fn lua(tree: &Tree) -> String {
    match tree {
        Tree::Truth(truth) => truth.to_string(),
        Tree::Number(number) => format!("({number:?})"),
        Tree::Text(text) => {
            let bytes: String = text.iter().map(|byte| format!("\\{byte:03}")).collect();
            format!("\"{bytes}\"")
        }
        Tree::List(items) => format!(
            "{{{}}}",
            items.iter().map(lua).collect::<Vec<_>>().join(",")
        ),
        Tree::Map(pairs) => {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(key, value)| format!("[\"{key}\"]={}", lua(value)))
                .collect();
            format!("{{{}}}", pairs.join(","))
        }
    }
}

const SAME: &str = "
local function same(a, b)
  if type(a) ~= type(b) then return false end
  if type(a) ~= 'table' then return a == b end
  for k, v in pairs(a) do if not same(v, b[k]) then return false end end
  for k in pairs(b) do if a[k] == nil then return false end end
  return true
end ";

fn run(engine: &Engine, source: &str, argv: &[Bytes]) -> Reply {
    let script = Script::new(Bytes::copy_from_slice(source.as_bytes())).unwrap();
    let run = Run {
        script: &script,
        keys: &[],
        argv,
        read_only: false,
        stop: &Stop::new(),
    };
    engine.run(run, &mut Echo::default())
}

thread_local! {
    static ENGINE: Engine = Engine::new(Limits::default());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_decodes_to_the_same(tree in tree()) {
        let source = format!(
            "{SAME} local t = {} return {{
               same(t, cjson.decode(cjson.encode(t))) and 1 or cjson.encode(t),
               same(t, (cmsgpack.unpack(cmsgpack.pack(t)))) and 1 or cmsgpack.pack(t)}}",
            lua(&tree)
        );
        let reply = ENGINE.with(|engine| run(engine, &source, &[]));
        prop_assert_eq!(reply, Reply::Array(vec![Reply::Integer(1), Reply::Integer(1)]));
    }

    #[test]
    fn doubles_survive_msgpack_and_struct(bits in any::<u64>()) {
        let number = f64::from_bits(bits);
        prop_assume!(number.is_finite());
        let source = format!(
            "local n = tonumber('{number:e}')
             local a, b = cmsgpack.unpack(cmsgpack.pack(n)), struct.unpack('>d', struct.pack('>d', n))
             return {{a == n and 1 or 0, b == n and 1 or 0}}"
        );
        let reply = ENGINE.with(|engine| run(engine, &source, &[]));
        prop_assert_eq!(reply, Reply::Array(vec![Reply::Integer(1), Reply::Integer(1)]));
    }

    /// Whatever the bytes, they are decoded or refused.
    #[test]
    fn decoders_take_any_bytes(bytes in vec(any::<u8>(), 0..200), json in "[\\[\\]{}:,\"\\\\a0-9eE.+xun -]{0,60}") {
        let source = "
            local function try(f, ...) local ok = pcall(f, ...) return ok end
            for i = 1, 2 do
              try(cjson.decode, ARGV[i]) try(cmsgpack.unpack, ARGV[i]) try(cmsgpack.unpack_one, ARGV[i], #ARGV[i])
              try(struct.unpack, ARGV[i], ARGV[1]) try(struct.pack, ARGV[i], 1, 2, 3) try(struct.size, ARGV[i])
              try(string.find, ARGV[1], ARGV[i]) try(string.gsub, ARGV[1], ARGV[i], ARGV[2])
              try(string.format, ARGV[i], 1) try(loadstring, ARGV[i])
              for w in string.gmatch(ARGV[1], '[^' .. string.rep('%', 1) .. 'a]') do end
            end
            return 1";
        let argv = [Bytes::from(bytes), Bytes::from(json)];
        let reply = ENGINE.with(|engine| run(engine, source, &argv));
        prop_assert_eq!(reply, Reply::Integer(1));
    }

    #[test]
    fn sorts(numbers in vec(any::<i32>(), 0..200), texts in vec(vec(any::<u8>(), 0..4), 0..200)) {
        let mut argv: Vec<Bytes> = texts.into_iter().map(Bytes::from).collect();
        let numbers_text: Vec<_> = numbers.iter().map(ToString::to_string).collect();
        let source = format!(
            "table.sort(ARGV) local n = {{{}}} table.sort(n) return {{ARGV, n}}",
            numbers_text.join(",")
        );
        let reply = ENGINE.with(|engine| run(engine, &source, &argv));
        argv.sort();
        let mut numbers = numbers;
        numbers.sort_unstable();
        let texts = Reply::Array(argv.into_iter().map(Reply::Bulk).collect());
        let numbers = Reply::Array(numbers.into_iter().map(|number| Reply::Integer(number.into())).collect());
        prop_assert_eq!(reply, Reply::Array(vec![texts, numbers]));
    }

    /// Strings are bytes, all the way through.
    #[test]
    fn bytes_go_through(bytes in vec(any::<u8>(), 0..200)) {
        let argv = [Bytes::from(bytes)];
        let source = "local t = {} for i = 1, #ARGV[1] do t[i] = string.char(ARGV[1]:byte(i)) end
            return {ARGV[1], table.concat(t), (ARGV[1]:gsub('.', '%0')), (cmsgpack.unpack(cmsgpack.pack(ARGV[1])))}";
        let reply = ENGINE.with(|engine| run(engine, source, &argv));
        let same = Reply::Bulk(argv[0].clone());
        prop_assert_eq!(reply, Reply::Array(vec![same.clone(), same.clone(), same.clone(), same]));
    }
}
