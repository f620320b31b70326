//! A client's bytes against a real session with a store and nodes, all of it in
//! this thread and in virtual time. Replies are whole and as many as requests,
//! and when the client is gone, nothing of it is left.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use scatterhoard_node::{clock, random};
use scatterhoard_proxy::{
    apply::Context,
    client_limits::ClientLimits,
    clients::Arrival,
    config::{Config, Options},
    resp::{Limits, fuzzing::parse},
    session::{ClientStream, Session, SessionError},
    value::Value,
};
use scatterhoard_sim::{
    history::History,
    network::Weather,
    platform::{Platform, Routing, Settings},
    proxy::Proxy,
};
use scatterhoard_wire::Epoch;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    runtime::Handle,
    task::LocalSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    replies,
    script::{Event, Script},
};

/// Nobody waits longer for anything, in virtual time.
const PATIENCE: Duration = Duration::from_secs(3600);
/// What goes on by itself after a request is over by then.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);
const BEGINS: Duration = Duration::from_secs(1_600_000_000);
const PORT: u16 = 10_000;
/// Buffer of a connection whose other end reads.
/// A client that got so much has seen enough, and hangs up.
const MOST_RECEIVED: u64 = 16 << 20;
const WITNESS_BYTES: usize = 4096;
const WITNESS: &[u8] = b"SET fuzz:witness stands\r\nGET fuzz:witness\r\n";

/// How many replies follow from a request's name and the count of requests alone is
/// not known of these: they end the connection, have none or several, or change
/// what is answered later.
const UNCOUNTED: [&str; 15] = [
    "ACL",
    "AUTH",
    "CLIENT",
    "CONFIG",
    "HELLO",
    "MONITOR",
    "PSUBSCRIBE",
    "PUNSUBSCRIBE",
    "QUIT",
    "RESET",
    "SHUTDOWN",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SUNSUBSCRIBE",
    "UNSUBSCRIBE",
];

/// Scripts block their thread, which is the only one here.
const SCRIPTS: [&str; 4] = ["EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO"];

/// Runs one client's life.
pub fn check(data: &[u8]) {
    let script = Script::new(data);
    let config = config();
    let limits = ClientLimits::new(config.client_limits);
    let limits = limits.of_requests(config.proto_max_bulk_bytes);
    let asked = Asked::new(&script, limits);
    if asked.has_any(&SCRIPTS) {
        return;
    }
    simulate(live(&config, &script, &asked));
}

fn simulate(life: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    random::simulate(Some(1));
    LocalSet::new().block_on(&runtime, async {
        clock::simulate(Some(BEGINS));
        let life = timeout(PATIENCE * 2, Box::pin(life));
        life.await.expect("it hangs");
    });
    drop(runtime);
    clock::simulate(None);
    random::simulate(None);
}

/// The requests that a client makes, if it makes them to the end.
struct Asked {
    names: Vec<Bytes>,
    ends_in_error: bool,
}

impl Asked {
    fn new(script: &Script, limits: Limits) -> Self {
        let parsed = parse([&script.sent()[..]], limits);
        let names = parsed.requests.into_iter().map(|mut r| r.swap_remove(0));
        Self {
            names: names.map(Value::into_contiguous).collect(),
            ends_in_error: parsed.error.is_some(),
        }
    }

    fn has_any(&self, names: &[&str]) -> bool {
        let is_any = |name: &Bytes| {
            names
                .iter()
                .any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
        };
        self.names.iter().any(is_any)
    }

    fn replies(&self) -> usize {
        self.names.len() + usize::from(self.ends_in_error)
    }
}

async fn start(config: &Config) -> (Rc<Platform>, Proxy) {
    let platform = Platform::new(settings(), Rc::new(History::new(false)));
    let mut epoch = Epoch(0);
    let proxy = Proxy::start(config, &platform, None, &mut epoch, PORT).await;
    (
        platform,
        proxy.expect("settings fit").expect("nodes answer"),
    )
}

async fn live(config: &Config, script: &Script, asked: &Asked) {
    let (platform, proxy) = start(config).await;
    let context = &proxy.context;
    let before = settle(context, usize::MAX).await;
    let (outcome, received) = meet(context, script).await;
    judge(script, asked, &outcome, &received);
    settle(context, before).await;
    ask_witness(context).await;
    settle(context, before).await;
    proxy.kill(&platform, None, false);
    proxy.bury().await;
}

fn config() -> Config {
    let options = Options {
        nodes: Some(3),
        data_parity: Some("2+1".into()),
        ..Options::default()
    };
    let mut config = Config::from_options(options).expect("options fit");
    // small, but as many chunks, stripes and windows as large ones
    config.geometry.cell_bytes = 4096;
    config.geometry.bytes_per_chunk = 1024;
    config.geometry.whole_up_to_bytes = 700;
    config.hot_bytes = 20_000;
    config.hot_value_bytes = 2_000;
    config.inflight_bytes = 256 << 10;
    config.backup.standby = false;
    config.script_limit = Duration::from_millis(200);
    config
}

fn settings() -> Settings {
    Settings {
        memory_mb: 64,
        routing: Routing::LatestFirst,
        restless: 0.0,
        latency: Duration::from_millis(2),
        cold_start: Duration::from_millis(50),
        timeout: Duration::from_secs(900),
        idle_timeout: Duration::from_secs(3600),
        concurrency: 3,
        weather: Weather {
            latency: Duration::from_millis(1),
            jitter: Duration::from_millis(1),
            loss: 0.0,
        },
    }
}

/// Waits until nobody has anything and there are no more tasks than these; returns
/// how many there are.
async fn settle(context: &Context, most: usize) -> usize {
    let (mut waited, mut pause) = (Duration::ZERO, Duration::from_millis(100));
    loop {
        sleep(pause).await;
        (waited, pause) = (waited + pause, pause * 2);
        let (left, tasks) = (context.leftovers(), Handle::current().metrics());
        let tasks = tasks.num_alive_tasks();
        if left.is_empty() && tasks <= most {
            return tasks;
        }
        assert!(
            waited < SETTLES_WITHIN,
            "left behind: {left:?}, {tasks} tasks of {most}"
        );
    }
}

/// One end of a connection whose other end is served, and how that ends.
fn connect(
    context: &Arc<Context>,
    buffer: usize,
) -> (
    DuplexStream,
    impl Future<Output = Result<(), SessionError>> + use<>,
) {
    let (near, far) = duplex(buffer);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let arrival = Arrival {
        peer,
        local: peer,
        descriptor: -1,
        end: CancellationToken::new(),
    };
    let session = Session::new(ClientStream::from(far), arrival, None, context.clone());
    (near, Box::pin(session.run(CancellationToken::new())))
}

/// Lets the client do what the script says; what came of it, and what it received.
async fn meet(context: &Arc<Context>, script: &Script) -> (Result<(), SessionError>, Vec<u8>) {
    let (stream, session) = connect(context, script.buffer);
    let client = async {
        let mut received = Vec::new();
        let (reader, writer) = split(stream);
        tokio::select! {
            biased;
            () = receive(reader, script, &mut received) => {}
            () = send(writer, script) => {}
        }
        received
    };
    let both = timeout(PATIENCE, async { tokio::join!(session, client) });
    both.await.expect("the session hangs")
}

/// Returns when the client hangs up.
async fn send(mut writer: WriteHalf<DuplexStream>, script: &Script) {
    for event in &script.events {
        match event {
            // the session may have ended
            Event::Send(bytes) => drop(writer.write_all(bytes).await),
            Event::Pause(pause) => sleep(*pause).await,
            Event::HangUp => return,
        }
    }
    let _ = writer.shutdown().await;
    std::future::pending().await
}

/// Returns at the end of the stream.
async fn receive(reader: ReadHalf<DuplexStream>, script: &Script, received: &mut Vec<u8>) {
    sleep(script.deaf_for).await;
    let _ = reader.take(MOST_RECEIVED).read_to_end(received).await;
}

fn judge(script: &Script, asked: &Asked, outcome: &Result<(), SessionError>, received: &[u8]) {
    let (replies, rest) = replies::count(received);
    let is_over = matches!(
        outcome,
        Ok(()) | Err(SessionError::Protocol(_)) | Err(SessionError::Io(_))
    );
    if script.hangs_up() || !is_over || received.len() as u64 >= MOST_RECEIVED {
        return;
    }
    assert_eq!(rest, 0, "the last reply is not whole");
    if !asked.has_any(&UNCOUNTED) {
        assert_eq!(replies, asked.replies(), "{outcome:?}");
    }
}

/// Another client, who comes after it, is served.
async fn ask_witness(context: &Arc<Context>) {
    let (mut stream, session) = connect(context, WITNESS_BYTES);
    let client = async {
        let mut received = Vec::new();
        stream.write_all(WITNESS).await.expect("it listens");
        stream.shutdown().await.expect("it listens");
        let _ = stream.read_to_end(&mut received).await;
        received
    };
    let both = timeout(PATIENCE, async { tokio::join!(session, client) });
    let (_, received) = both.await.expect("the next client hangs");
    let text = String::from_utf8_lossy(&received);
    let is_stored = text == "+OK\r\n$6\r\nstands\r\n";
    // the default user may have been changed
    let is_refused = text.starts_with("-NO");
    assert!(is_stored || is_refused, "the next client got {text:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{AGAIN, HANG_UP};

    #[test]
    fn a_long_pipeline_lets_others_pass() {
        const TIMES: usize = 20_000;
        simulate(async {
            let (platform, proxy) = start(&config()).await;
            let (mut busy, session) = connect(&proxy.context, 1 << 20);
            busy.write_all(&b"PING\r\n".repeat(TIMES)).await.unwrap();
            busy.shutdown().await.unwrap();
            let busy_session = tokio::task::spawn_local(session);
            let (mut other, session) = connect(&proxy.context, WITNESS_BYTES);
            other.write_all(b"PING\r\n").await.unwrap();
            let other_session = tokio::task::spawn_local(session);
            other.read_exact(&mut [0; 7]).await.unwrap();
            assert!(!busy_session.is_finished(), "it had to wait");
            drop(other);
            let mut replies = Vec::new();
            busy.read_to_end(&mut replies).await.unwrap();
            assert_eq!(replies.len(), 7 * TIMES);
            busy_session.await.unwrap().unwrap();
            other_session.await.unwrap().unwrap();
            proxy.kill(&platform, None, false);
            proxy.bury().await;
        });
    }

    #[test]
    fn large_values_hang_ups_and_babble_leave_nothing() {
        let set = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$70000\r\n";
        let body = [b'x', AGAIN, 0, 0xff, 0xff, AGAIN, 0, 0x70, 0x11];
        for end in [&b"\r\nGET k\r\n"[..], &[HANG_UP], b"", b"\r\n*x\r\n"] {
            for head in [[12, 0, 0], [0, 100, 20]] {
                check(&[&head[..], set, &body, end].concat());
            }
        }
    }

    #[test]
    fn monitors_leave_nothing() {
        let own =
            b"MONITOR\r\nMONITOR\r\nPING\r\nMULTI\r\nMONITOR\r\nEXEC\r\nECHO \"a b\"\r\nGET k\r\n";
        for end in [
            &b""[..],
            b"RESET\r\nGET k\r\n",
            b"QUIT\r\n",
            b"*x\r\n",
            &[HANG_UP],
        ] {
            for head in [[12, 0, 0], [0, 1, 20]] {
                check(&[&head[..], own, end].concat());
            }
        }
    }

    #[test]
    #[should_panic(expected = "no RESP")]
    fn replies_are_looked_at() {
        replies::count(b"+OK\r\nhello\r\n");
    }
}
