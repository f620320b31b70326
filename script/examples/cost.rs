//! What one run of a small script costs: `cargo run --release -p
//! scatterhoard-script --example cost`.

use std::time::Instant;

use bytes::Bytes;
use scatterhoard_script::{
    Call, Caller, Engine, Limits, LogLevel, Reply, Run, Script, ScriptError, Stop,
};

struct Trivial;

impl Caller for Trivial {
    fn call(&mut self, _: Call) -> Reply {
        Reply::Bulk(Bytes::from_static(b"value"))
    }

    fn log(&mut self, _: LogLevel, _: &[u8]) {}
}

const RUNS: u32 = 200_000;

fn main() -> Result<(), ScriptError> {
    let engine = Engine::new(Limits {
        time: Some(std::time::Duration::from_secs(5)),
        ..Limits::default()
    });
    let (stop, keys) = (Stop::new(), [Bytes::from_static(b"key")]);
    for source in [
        "return 1",
        "return redis.call('GET', KEYS[1])",
        "for i = 1, 100 do redis.call('GET', KEYS[1]) end return 1",
        "return cjson.encode(cjson.decode('{\"a\":[1,2,3],\"b\":\"text\"}'))",
        "local n = 0 for i = 1, 10000 do n = n + i end return n",
    ] {
        let script = Script::new(Bytes::from(source))?;
        let runs = if source.starts_with("for") || source.starts_with("local") {
            RUNS / 50
        } else {
            RUNS
        };
        for round in 0..2 {
            let began = Instant::now();
            for _ in 0..runs {
                let run = Run {
                    script: &script,
                    keys: &keys,
                    argv: &[],
                    read_only: false,
                    stop: &stop,
                };
                std::hint::black_box(engine.run(run, &mut Trivial));
            }
            // the first round is for warming up
            if round == 1 {
                println!(
                    "{:8.2} us  {source}",
                    began.elapsed().as_secs_f64() * 1e6 / f64::from(runs)
                );
            }
        }
    }
    let began = Instant::now();
    for number in 0..1_000 {
        let script = Script::new(Bytes::from(format!("return {number}")))?;
        engine.check(&script)?;
    }
    println!(
        "{:8.2} us  to compile a new script",
        began.elapsed().as_secs_f64() * 1e3
    );
    let began = Instant::now();
    for _ in 0..200 {
        Engine::new(Limits::default()).check(&Script::new(Bytes::from_static(b"return 1"))?)?;
    }
    println!(
        "{:8.2} us  for a new state",
        began.elapsed().as_secs_f64() * 1e6 / 200.0
    );
    Ok(())
}
