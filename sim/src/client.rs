//! The clients: each writes keys of its own, reads those of all, and has every byte
//! judged.

use std::{rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use rand::Rng;
use scatterhoard_judge::model::{Content, Ending, Verdict};
use scatterhoard_node::random;
use scatterhoard_proxy::{
    apply::{self, Context, Outcome, ValueReply},
    command::Named,
    resp::Reply,
    store::{Body, Broken},
    value::Value,
};
use tokio::time::{sleep, timeout};

use crate::{proxy::Proxy, world::World};

/// Nobody waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(90);

/// How an operation ended.
enum Answer {
    Value(Option<Vec<u8>>),
    Done,
    Refused(String),
    /// Neither is known: the proxy died, or the value broke off.
    Broken,
}

/// A value that a client sends as slowly as it likes.
struct Slowly {
    bytes: Bytes,
    pause: Duration,
}

impl Body for Slowly {
    type Error = ();

    fn is_metered(&self) -> bool {
        true
    }

    async fn next(&mut self, len: usize, padded_len: usize) -> Result<Bytes, ()> {
        if !self.pause.is_zero() {
            sleep(self.pause).await;
        }
        let mut cell = BytesMut::with_capacity(padded_len);
        cell.extend_from_slice(&self.bytes.split_to(len));
        cell.resize(padded_len, 0);
        Ok(cell.freeze())
    }
}

/// Works on the keys that leave `index` when divided by the number of clients.
pub async fn work(world: Rc<World>, index: usize) {
    let (count, clients) = (world.scenario.keys, world.scenario.clients);
    while !world.is_over() {
        let mut rng = random::rng();
        sleep(world.scenario.think.mul_f64(rng.random())).await;
        let own = rng.random_range(0..count.div_ceil(clients)) * clients + index;
        match rng.random_range(0..100) {
            60..95 if own < count => {
                let ttl = rng
                    .random_bool(0.1)
                    .then(|| Duration::from_millis(rng.random_range(200..20_000)));
                set(&world, own, size(&world), ttl).await;
            }
            95.. if own < count => del(&world, own).await,
            _ => {
                get(&world, rng.random_range(0..count)).await;
            }
        }
    }
}

fn size(world: &World) -> usize {
    let (mut rng, largest) = (random::rng(), world.scenario.largest);
    match rng.random_range(0..10) {
        0 => rng.random_range(0..2),
        1..5 => rng.random_range(1..1_500),
        5..8 => rng.random_range(1_000..largest / 2 + 1_001),
        _ => rng.random_range(1_000..=largest),
    }
}

/// How a read ended, whatever it brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a reply.
    Answered,
    /// For now: with `UNAVAILABLE`.
    PutOff,
    /// With another error, or there is no proxy.
    Refused,
    /// In the middle.
    BrokeOff,
}

/// Reads a key and judges what came.
pub async fn get(world: &Rc<World>, key: usize) -> Ended {
    let Some(proxy) = world.proxy() else {
        return Ended::Refused;
    };
    world.observe(key);
    let read = world.keys.borrow()[key].begin_read(world.now());
    world.history.add(format_args!("get {key}"));
    let request = vec![text("GET"), world.name(key)];
    let value = match ask(world, &proxy, request, Vec::new()).await {
        Answer::Value(value) => value,
        Answer::Done => {
            world.violated(key, "GET answered OK");
            return Ended::Answered;
        }
        Answer::Refused(why) => {
            world.history.add(format_args!("get {key}: {why}"));
            return if why.starts_with("UNAVAILABLE ") {
                Ended::PutOff
            } else {
                Ended::Refused
            };
        }
        Answer::Broken => {
            world.history.add(format_args!("get {key}: broken"));
            return Ended::BrokeOff;
        }
    };
    let verdict =
        world.keys.borrow_mut()[key].end_read(&read, value.as_deref(), &world.bodies, world.now());
    let len = value.as_ref().map(Vec::len);
    world
        .history
        .add(format_args!("get {key}: {len:?} {verdict:?}"));
    match verdict {
        Verdict::Hit | Verdict::Absent => {}
        Verdict::Miss { .. } => world.missed(key),
        Verdict::Stale { version } => {
            world.violated(key, &format!("stale: version {version}"));
        }
        Verdict::Wrong => {
            world.violated(key, "bytes that were never written");
        }
    }
    Ended::Answered
}

async fn set(world: &Rc<World>, key: usize, len: usize, ttl: Option<Duration>) {
    let Some(proxy) = world.proxy() else { return };
    let (version, body) = {
        let mut keys = world.keys.borrow_mut();
        let version = keys[key].begin_write(Content::Value { len, ttl }, world.now());
        let body = keys[key].body(version, &world.bodies);
        (version, Bytes::copy_from_slice(body))
    };
    world.history.add(format_args!(
        "set {key} version {version}, {len} bytes, {ttl:?}"
    ));
    let mut rng = random::rng();
    let (mut uploads, mut value) = (Vec::new(), Value::from_segments(vec![body.clone()]));
    if len > 1_500 && rng.random_bool(0.6) {
        // as sessions do with large values: to nodes while it arrives
        let pause = match rng.random_range(0..4) {
            0 => Duration::from_millis(rng.random_range(1..700)),
            _ => Duration::ZERO,
        };
        let body = Slowly { bytes: body, pause };
        let store = proxy.store().clone();
        let sent = proxy
            .dead
            .run_until_cancelled(store.write_from(len as u64, body));
        let written = match sent.await {
            Some(Ok(written)) => Ok(written),
            Some(Err(Broken::Write(error))) => Err(error),
            Some(Err(Broken::Body(()))) | None => {
                return wrote(world, key, version, Answer::Broken);
            }
        };
        uploads.push(Some(written));
        value = Value::Uploaded {
            number: 0,
            start: Bytes::new(),
            len: len as u64,
        };
    }
    let mut request = vec![text("SET"), world.name(key), value];
    if let Some(ttl) = ttl {
        request.extend([text("PX"), text(&ttl.as_millis().to_string())]);
    }
    let answer = ask(world, &proxy, request, uploads).await;
    wrote(world, key, version, answer);
}

async fn del(world: &Rc<World>, key: usize) {
    let Some(proxy) = world.proxy() else { return };
    let version = world.keys.borrow_mut()[key].begin_write(Content::Nothing, world.now());
    world
        .history
        .add(format_args!("del {key} version {version}"));
    let answer = ask(
        world,
        &proxy,
        vec![text("DEL"), world.name(key)],
        Vec::new(),
    )
    .await;
    wrote(world, key, version, answer);
}

fn wrote(world: &World, key: usize, version: usize, answer: Answer) {
    let (ending, said) = match answer {
        Answer::Done => (Ending::Acknowledged, "done".to_owned()),
        Answer::Refused(why) => (Ending::Refused, why),
        Answer::Value(_) | Answer::Broken => (Ending::Unknown, "unknown".to_owned()),
    };
    world
        .history
        .add(format_args!("write {key} version {version}: {said}"));
    world.keys.borrow_mut()[key].end_write(version, ending, world.now());
    world.observe(key);
}

/// Carries a request out as a session does.
async fn ask(
    world: &Rc<World>,
    proxy: &Proxy,
    request: Vec<Value>,
    uploads: Vec<scatterhoard_proxy::clients::Upload>,
) -> Answer {
    let context = proxy.context.clone();
    let mut client = proxy.client();
    client.uploads = uploads;
    let work = async {
        let named = Named::of(&request);
        let outcome = apply::carry_out(&context, &mut client, named, request).await;
        answer(&context, outcome).await
    };
    match timeout(PATIENCE, proxy.dead.run_until_cancelled(work)).await {
        // what it did after its death nobody has seen
        Ok(Some(_)) if proxy.dead.is_cancelled() => Answer::Broken,
        Ok(Some(answer)) => answer,
        Ok(None) => Answer::Broken,
        Err(_) => {
            world.violated(usize::MAX, "an operation hangs");
            Answer::Broken
        }
    }
}

async fn answer(context: &Context, outcome: Outcome) -> Answer {
    let value = match outcome {
        Outcome::Reply(reply) | Outcome::Close(reply) | Outcome::Part(reply, _) => {
            ValueReply::Whole(reply)
        }
        Outcome::Value(value) => value,
        Outcome::Lookup(lookup) => apply::ready(&context.store, lookup).await,
        Outcome::Range(pinned, bytes) => apply::range(&context.store, pinned, bytes).await,
        // not asked for here
        Outcome::Values(_)
        | Outcome::Pushes(_)
        | Outcome::Subscribed(_)
        | Outcome::Publish(_)
        | Outcome::Several(..) => {
            return Answer::Broken;
        }
    };
    let reply = match value {
        ValueReply::Whole(reply) => reply,
        ValueReply::Stream { first, mut rest } => {
            let mut value: Vec<u8> = first.concat();
            let pause = match random::rng().random_range(0..6) {
                0 => Duration::from_millis(random::rng().random_range(1..900)),
                _ => Duration::ZERO,
            };
            loop {
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                match rest.next_cells().await {
                    Ok(Some(cells)) => cells.iter().for_each(|cell| value.extend_from_slice(cell)),
                    Ok(None) => return Answer::Value(Some(value)),
                    // the connection ends
                    Err(_) => return Answer::Broken,
                }
            }
        }
    };
    match reply {
        Reply::Bulk(value) => Answer::Value(Some(value.segments().concat())),
        Reply::Null => Answer::Value(None),
        Reply::Error(why) => Answer::Refused(why.into_owned()),
        _ => Answer::Done,
    }
}

fn text(text: &str) -> Value {
    Value::from_segments(vec![Bytes::copy_from_slice(text.as_bytes())])
}
