//! Lambda's API as AWS answers it, in front of a local-lambda that runs the functions:
//! refuses invokes with AWS's own words, and tells how functions and the account are set
//! up. One request a connection.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::platform::Platform;

/// An answer that is an error.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) body: Value,
}

impl Refused {
    pub(crate) fn new(status: u16, code: &'static str, message: &str) -> Self {
        let body = json!({"Type": "User", "message": message});
        Self { status, code, body }
    }

    pub(crate) fn throttled(reason: &str) -> Self {
        Self {
            status: 429,
            code: "TooManyRequestsException",
            body: json!({"Reason": reason, "Type": "User", "message": "Rate Exceeded."}),
        }
    }

    pub(crate) fn expired() -> Self {
        let message = "The security token included in the request is expired";
        Self::new(403, "ExpiredTokenException", message)
    }
}

/// What it says and does.
pub(crate) struct State {
    /// Every call is refused so.
    pub(crate) all: Option<Refused>,
    /// Invokes of some functions are: of those whose name ends so.
    pub(crate) invokes: BTreeMap<String, Refused>,
    /// Other calls are.
    pub(crate) questions: Option<Refused>,
    /// What functions are like: by the end of their name, over [`configuration`].
    pub(crate) functions: BTreeMap<String, Value>,
    /// Concurrent executions of the account.
    pub(crate) concurrency: u32,
    /// Reserved for each function.
    pub(crate) reserved: Option<u32>,
    /// How far its clock is ahead.
    pub(crate) ahead_s: i64,
    /// Invokes that came, dry ones and refused ones included.
    pub(crate) invoked: usize,
}

/// A function as the tests' settings want it.
fn configuration(name: &str) -> Value {
    json!({
        "FunctionName": name,
        "Runtime": "provided.al2023",
        "MemorySize": 128,
        "Timeout": 60,
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "Architectures": [scatterhoard_proxy::config::Architecture::default().to_string()],
        "Environment": {"Variables": {"MIMALLOC_PURGE_DELAY": "0"}},
        "CodeSha256": "aGVsbG8=",
        "LastModified": "2026-11-22T12:00:00.000+0000",
    })
}

pub(crate) struct Aws {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    platform: Platform,
}

impl Aws {
    /// With `nodes` functions of 128 MB.
    pub(crate) fn start(nodes: usize) -> Self {
        let platform = Platform::start(nodes);
        let behind = platform.address();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            all: None,
            invokes: BTreeMap::new(),
            questions: None,
            functions: BTreeMap::new(),
            concurrency: 1000,
            reserved: None,
            ahead_s: 0,
            invoked: 0,
        }));
        let served = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // the test is over
                if Arc::strong_count(&served) == 1 {
                    return;
                }
                let state = served.clone();
                std::thread::spawn(move || {
                    let _ = answer(&state, stream, behind);
                });
            }
        });
        Self {
            state,
            address,
            platform,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn platform(&self) -> &Platform {
        &self.platform
    }

    pub(crate) fn refuse_all(&self, refused: Option<Refused>) {
        self.state().all = refused;
    }

    /// Refuses all invokes.
    pub(crate) fn refuse_invokes(&self, refused: Option<Refused>) {
        self.state().invokes = refused.map(|r| (String::new(), r)).into_iter().collect();
    }
}

fn answer(state: &Mutex<State>, mut stream: TcpStream, behind: SocketAddr) -> std::io::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower
        .lines()
        .find_map(|l| l.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |l| l.trim().parse().unwrap())];
    input.read_exact(&mut body)?;
    let is_dry = lower.contains("x-amz-invocation-type: dryrun");
    let path = head.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (reply, ahead_s) = {
        let mut state = state.lock().unwrap();
        (decide(&mut state, &steps), state.ahead_s)
    };
    match reply {
        Some(Ok(value)) => write(&mut stream, 200, "", &value, ahead_s),
        Some(Err(refused)) => {
            let kind = format!("x-amzn-errortype: {}\r\n", refused.code);
            write(&mut stream, refused.status, &kind, &refused.body, ahead_s)
        }
        None if is_dry => write(&mut stream, 204, "", &Value::Null, ahead_s),
        None => forward(&mut stream, &head, &body, behind),
    }
}

/// What it answers itself; nothing: the function is to be run.
fn decide(state: &mut State, steps: &[&str]) -> Option<Result<Value, Refused>> {
    let is_invoke = matches!(steps, [_, "functions", _, "invocations"]);
    state.invoked += usize::from(is_invoke);
    if let Some(refused) = &state.all {
        return Some(Err(refused.clone()));
    }
    if let (false, Some(refused)) = (is_invoke, &state.questions) {
        return Some(Err(refused.clone()));
    }
    match steps {
        [_, "functions", name, "invocations"] => {
            let mut rules = state.invokes.iter();
            let rule = rules.find(|(end, _)| name.ends_with(end.as_str()));
            rule.map(|(_, refused)| Err(refused.clone()))
        }
        [_, "functions", name, "configuration"] => {
            let mut function = configuration(name);
            for (end, over) in &state.functions {
                if name.ends_with(end.as_str()) {
                    let fields = over.as_object().unwrap().clone();
                    function.as_object_mut().unwrap().extend(fields);
                }
            }
            Some(Ok(function))
        }
        [_, "functions", _, "concurrency"] => Some(Ok(match state.reserved {
            Some(n) => json!({"ReservedConcurrentExecutions": n}),
            None => json!({}),
        })),
        [_, "account-settings"] => Some(Ok(json!({
            "AccountLimit": {
                "ConcurrentExecutions": state.concurrency,
                "UnreservedConcurrentExecutions": state.concurrency,
                "TotalCodeSize": 1, "CodeSizeUnzipped": 1, "CodeSizeZipped": 1,
            },
            "AccountUsage": {"TotalCodeSize": 1, "FunctionCount": 1},
        }))),
        _ => Some(Err(Refused::new(404, "UnknownOperationException", ""))),
    }
}

fn write(
    stream: &mut TcpStream,
    status: u16,
    headers: &str,
    body: &Value,
    ahead_s: i64,
) -> std::io::Result<()> {
    let body = match status {
        204 => String::new(),
        _ => body.to_string(),
    };
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let date = http_date((now + ahead_s) as u64);
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ndate: {date}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())
}

/// `Sun, 22 Nov 2026 12:00:00 GMT`
fn http_date(unix_s: u64) -> String {
    let date = scatterhoard_proxy::profile::date(Duration::from_secs(unix_s));
    let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let day = days[(unix_s / 86_400 % 7) as usize];
    let month = months[date[5..7].parse::<usize>().unwrap() - 1];
    format!(
        "{day}, {} {month} {} {} GMT",
        &date[8..10],
        &date[..4],
        &date[11..19]
    )
}

/// Runs the function where it is.
fn forward(
    stream: &mut TcpStream,
    head: &str,
    body: &[u8],
    behind: SocketAddr,
) -> std::io::Result<()> {
    let mut there = TcpStream::connect(behind)?;
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    there.write_all(&[head.as_bytes(), body].concat())?;
    std::io::copy(&mut there, stream)?;
    Ok(())
}
