//! An engine with a trivial caller.

#![allow(dead_code, reason = "each test uses its part")]

use bytes::Bytes;
use scatterhoard_script::{Call, Caller, Engine, Limits, LogLevel, Reply, Run, Script, Stop};

/// Answers each command with what it was asked; `FAIL` with an error.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) calls: Vec<Call>,
    pub(crate) log: Vec<(LogLevel, Vec<u8>)>,
}

impl Caller for Echo {
    fn call(&mut self, call: Call) -> Reply {
        let reply = match &call.args[0].to_ascii_uppercase()[..] {
            b"FAIL" => Reply::Error(Bytes::from_static(b"WRONGTYPE that is wrong")),
            b"NIL" => Reply::Nil,
            b"OK" => Reply::Status(Bytes::from_static(b"OK")),
            b"MAP" => Reply::Map(vec![(Reply::Bulk("k".into()), Reply::Double(1.5))]),
            _ => Reply::Bulk(call.args.join(&b' ').into()),
        };
        self.calls.push(call);
        reply
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        self.log.push((level, text.to_vec()));
    }
}

pub(crate) fn run_in(engine: &Engine, script: &str) -> Reply {
    match Script::new(Bytes::copy_from_slice(script.as_bytes())) {
        Ok(script) => {
            let (keys, argv) = ([Bytes::from("k")], [Bytes::from("a"), Bytes::from("b")]);
            let run = Run {
                script: &script,
                keys: &keys,
                argv: &argv,
                read_only: false,
                stop: &Stop::new(),
            };
            engine.run(run, &mut Echo::default())
        }
        Err(error) => Reply::Error(error.0),
    }
}

pub(crate) fn run(script: &str) -> Reply {
    run_in(&Engine::new(Limits::default()), script)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A reply in one line.
pub(crate) fn text(reply: &Reply) -> String {
    let all = |items: &[Reply]| items.iter().map(text).collect::<Vec<_>>().join(" ");
    match reply {
        Reply::Nil => "nil".into(),
        Reply::Integer(number) => format!(":{number}"),
        Reply::Bulk(bytes) => format!("${}", lossy(bytes)),
        Reply::Status(bytes) => format!("+{}", lossy(bytes)),
        Reply::Error(bytes) => format!("-{}", lossy(bytes)),
        Reply::Array(items) => format!("[{}]", all(items)),
        Reply::Double(number) => format!(",{number}"),
        Reply::Bool(truth) => format!("#{truth}"),
        Reply::Map(pairs) => {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(key, value)| format!("{} {}", text(key), text(value)))
                .collect();
            format!("%[{}]", pairs.join(" "))
        }
        Reply::Set(items) => format!("~[{}]", all(items)),
        Reply::BigNumber(bytes) => format!("({}", lossy(bytes)),
        Reply::Verbatim { format, text } => format!("={}:{}", lossy(format), lossy(text)),
    }
}
