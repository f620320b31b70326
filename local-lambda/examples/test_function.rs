//! A function that does as its payload says, on the official runtime. The
//! integration tests run it; it is also something to point a first
//! configuration at.
//!
//! Payload: `{"do": "echo"}` and so on, see `Order`. `INIT` in the environment
//! makes it misbehave: `sleep` or `exit` before its first event, `dawdle` by
//! asking for each next event late.

#![allow(missing_docs, clippy::panic, clippy::disallowed_methods)]

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
enum Order {
    /// Answers with its pid, its count of invocations and the value.
    Echo {
        value: Option<Value>,
    },
    /// Answers with its environment and the deadline it was given.
    Describe,
    /// Answers after so many milliseconds.
    Sleep {
        ms: u64,
    },
    /// Touches so many megabytes, then answers.
    Allocate {
        mb: usize,
    },
    /// Returns a string of so many bytes.
    Return {
        bytes: usize,
    },
    /// Fails in an orderly way.
    Fail,
    /// Ends the process.
    Exit {
        code: i32,
    },
    Abort,
    Panic,
    /// Answers, and ends the process so many milliseconds later.
    ExitAfter {
        ms: u64,
    },
}

static INVOCATIONS: AtomicU64 = AtomicU64::new(0);

async fn handle(event: LambdaEvent<Order>) -> Result<Value, Error> {
    let count = INVOCATIONS.fetch_add(1, Ordering::Relaxed) + 1;
    let pid = std::process::id();
    match event.payload {
        Order::Echo { value } => return Ok(json!({"pid": pid, "count": count, "value": value})),
        Order::Describe => {
            let env: std::collections::BTreeMap<String, String> = std::env::vars().collect();
            let context = &event.context;
            return Ok(json!({
                "env": env,
                "deadline_ms": context.deadline,
                "request_id": context.request_id,
                "arn": context.invoked_function_arn,
                "trace": context.xray_trace_id,
            }));
        }
        Order::Sleep { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
        Order::Allocate { mb } => {
            let mut memory = vec![0u8; mb << 20];
            memory.iter_mut().step_by(4096).for_each(|b| *b = 1);
            // Long enough for a poll of resident sizes to see it.
            tokio::time::sleep(Duration::from_millis(600)).await;
            std::hint::black_box(&memory);
        }
        Order::Return { bytes } => return Ok(Value::String("x".repeat(bytes))),
        Order::Fail => return Err("as told".into()),
        Order::Exit { code } => std::process::exit(code),
        Order::Abort => std::process::abort(),
        Order::Panic => panic!("as told"),
        Order::ExitAfter { ms } => {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(ms));
                std::process::exit(0);
            });
        }
    }
    Ok(json!({"pid": pid, "count": count}))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    match std::env::var("INIT").as_deref() {
        Ok("sleep") => std::thread::sleep(Duration::from_secs(60)),
        Ok("exit") => std::process::exit(7),
        Ok("dawdle") => return dawdle(),
        _ => {}
    }
    lambda_runtime::run(service_fn(handle)).await
}

/// The smallest runtime there is. It answers at once, then takes half a second
/// before it asks for more.
fn dawdle() -> Result<(), Error> {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API")?;
    let prefix = "/2018-06-01/runtime/invocation";
    loop {
        let event = exchange(&api, "GET", &format!("{prefix}/next"), "")?;
        let id = event
            .lines()
            .find_map(|l| l.strip_prefix("lambda-runtime-aws-request-id: "));
        let id = id.ok_or("no request id")?;
        let count = INVOCATIONS.fetch_add(1, Ordering::Relaxed) + 1;
        let answer = json!({"pid": std::process::id(), "count": count}).to_string();
        exchange(&api, "POST", &format!("{prefix}/{id}/response"), &answer)?;
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn exchange(api: &str, method: &str, path: &str, body: &str) -> Result<String, Error> {
    let mut stream = TcpStream::connect(api)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
