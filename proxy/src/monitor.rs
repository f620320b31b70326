//! MONITOR: what is carried out, told to those who watch.
//!
//! A request is put into words before it is carried out, for it is taken apart then,
//! and only if somebody watches: otherwise it costs one look at a counter.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    clock,
    command::{CommandSpec, table::flags},
    pubsub::{Mailbox, Message},
    slow_log,
    value::Value,
};

/// Longest argument that is shown whole. No value that goes to nodes while it arrives
/// is shorter.
const WHOLE_BYTES: u64 = 16 << 10;
/// A line ends with how many arguments there are more once it is so long.
const MAX_LINE_BYTES: usize = 256 << 10;
/// So much is held of what a transaction or a script does until it is done; then it
/// is shown as far as it has come, and again if it begins anew.
const MOST_HELD_BYTES: usize = 1 << 20;

/// Who watches.
#[derive(Default)]
pub struct Monitors {
    /// Mostly there is nobody, and no one looks further.
    count: AtomicUsize,
    mailboxes: Mutex<BTreeMap<u64, Arc<Mailbox>>>,
}

impl Monitors {
    /// Whether anybody does.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// The connection of this number watches from now on, until what is returned is
    /// dropped.
    pub fn enter(self: &Arc<Self>, id: u64, mailbox: Arc<Mailbox>) -> Monitoring {
        let mut mailboxes = self.mailboxes.lock();
        mailboxes.insert(id, mailbox);
        self.count.store(mailboxes.len(), Ordering::Relaxed);
        Monitoring {
            monitors: self.clone(),
            id,
        }
    }

    /// Tells everybody who watches, with the present time.
    fn tell(&self, lines: impl IntoIterator<Item = String>) {
        let mailboxes = self.mailboxes.lock();
        for line in lines {
            let line = stamped(clock::since_1970(), &line);
            for mailbox in mailboxes.values() {
                mailbox.put(Message::Monitored(line.clone()));
            }
        }
    }
}

fn stamped(since_1970: Duration, line: &str) -> Arc<str> {
    let (seconds, micros) = (since_1970.as_secs(), since_1970.subsec_micros());
    format!("{seconds}.{micros:06} {line}").into()
}

/// A connection that watches; no longer once it is dropped.
pub struct Monitoring {
    monitors: Arc<Monitors>,
    id: u64,
}

impl Drop for Monitoring {
    fn drop(&mut self) {
        let mut mailboxes = self.monitors.mailboxes.lock();
        mailboxes.remove(&self.id);
        self.monitors
            .count
            .store(mailboxes.len(), Ordering::Relaxed);
    }
}

/// Who has a command carried out.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A client, from there.
    Client(SocketAddr),
    /// A script.
    Script,
}

/// What is to be shown of one request: itself, and what it does as a transaction or a
/// script. It is shown once that is done, for it may begin anew until then.
pub struct Shown {
    monitors: Arc<Monitors>,
    /// The request itself, if it is shown behind what it does.
    pub words: Option<String>,
    /// What was done, in order.
    lines: Vec<String>,
    bytes: usize,
    /// So many lines stay when it begins anew: a script is shown before its calls.
    staying: usize,
}

impl Shown {
    /// Of a request that is about to be carried out, if anybody watches.
    pub fn new(monitors: &Arc<Monitors>) -> Option<Box<Self>> {
        monitors.any().then(|| {
            Box::new(Self {
                monitors: monitors.clone(),
                words: None,
                lines: Vec::new(),
                bytes: 0,
                staying: 0,
            })
        })
    }

    /// One more command, in this database.
    pub fn add(&mut self, db: u8, source: Source, words: &str) {
        let line = match source {
            Source::Client(peer) => format!("[{db} {peer}] {words}"),
            Source::Script => format!("[{db} lua] {words}"),
        };
        self.bytes += line.len();
        self.lines.push(line);
        if self.bytes > MOST_HELD_BYTES {
            self.tell();
        }
    }

    /// What there is by now stays, if the rest begins anew.
    pub fn stays(&mut self) {
        self.staying = self.lines.len();
    }

    /// What was done since then was for nothing: it is to be done anew, or not at all.
    pub fn forget(&mut self) {
        self.lines.truncate(self.staying);
        self.bytes = self.lines.iter().map(String::len).sum();
    }

    /// Shows it.
    pub fn tell(&mut self) {
        self.monitors.tell(self.lines.drain(..));
        (self.bytes, self.staying) = (0, 0);
    }
}

/// Whether a command is shown at all: what administers is not.
pub fn shows(spec: &CommandSpec) -> bool {
    spec.flags & flags::ADMIN == 0
}

/// Whether a command is shown before what it does: a script.
pub fn shows_first(spec: &CommandSpec) -> bool {
    spec.is(flags::SKIP_MONITOR)
}

/// A request's arguments in quotes, as Redis writes them; what may be a password is
/// left out.
pub fn arguments(request: &[Value]) -> String {
    let mut line = String::new();
    for (place, argument) in request.iter().enumerate() {
        if place > 0 {
            line.push(' ');
        }
        if line.len() > MAX_LINE_BYTES {
            let more = request.len() - place;
            let _ = write!(line, "\"... ({more} more arguments)\"");
            break;
        }
        line.push('"');
        match slow_log::is_secret(request, place) {
            true => line.push_str("(redacted)"),
            false => show(argument, &mut line),
        }
        line.push('"');
    }
    line
}

fn show(argument: &Value, line: &mut String) {
    let len = argument.len();
    let most = match len {
        ..=WHOLE_BYTES => len,
        _ => Value::QUOTED_BYTES as u64,
    };
    let start = argument.start(most);
    start.iter().for_each(|byte| escape(*byte, line));
    let more = len - start.len() as u64;
    if more > 0 {
        let _ = write!(line, "... ({more} more bytes)");
    }
}

/// As Redis's sdscatrepr.
fn escape(byte: u8, line: &mut String) {
    match byte {
        b'\\' => line.push_str("\\\\"),
        b'"' => line.push_str("\\\""),
        b'\n' => line.push_str("\\n"),
        b'\r' => line.push_str("\\r"),
        b'\t' => line.push_str("\\t"),
        7 => line.push_str("\\a"),
        8 => line.push_str("\\b"),
        b' '..=b'~' => line.push(char::from(byte)),
        _ => {
            let _ = write!(line, "\\x{byte:02x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::pubsub::Limits;

    fn value(bytes: impl Into<Vec<u8>>) -> Value {
        Bytes::from(bytes.into()).into()
    }

    fn words(words: &[&str]) -> Vec<Value> {
        words.iter().map(|w| value(*w)).collect()
    }

    #[test]
    fn arguments_are_escaped_as_redis_does() {
        // from redis-server 7.0.15
        let odd = value(*b"b\"\\\n\r\t\x07\x08\x00\x7f\xff x~");
        let shown = arguments(&[value("set"), odd, Value::Empty]);
        assert_eq!(
            shown, r#""set" "b\"\\\n\r\t\a\b\x00\x7f\xff x~" """#,
            "{shown}"
        );
    }

    #[test]
    fn passwords_are_left_out() {
        assert_eq!(
            arguments(&words(&["auth", "a", "b"])),
            r#""auth" "(redacted)" "(redacted)""#
        );
        let hello = words(&["HELLO", "3", "auth", "default", "pw", "setname", "x"]);
        let shown = arguments(&hello);
        assert!(shown.starts_with(r#""HELLO" "3" "auth" "(redacted)" "(redacted)""#));
    }

    #[test]
    fn long_arguments_and_lines_are_cut() {
        let (whole, cut) = (vec![b'x'; 16 << 10], vec![b'x'; (16 << 10) + 1]);
        let shown = arguments(&[value(whole), value(cut)]);
        let expected = format!(
            "\"{}\" \"{}... (16257 more bytes)\"",
            "x".repeat(16 << 10),
            "x".repeat(128)
        );
        assert_eq!(shown, expected);
        // of what is on nodes by now its start is known, at most
        let on_nodes = |start: &'static [u8]| Value::Uploaded {
            number: 0,
            len: 100_000,
            start: Bytes::from_static(start),
        };
        assert_eq!(
            arguments(&[on_nodes(b"ab\n"), on_nodes(b"")]),
            "\"ab\\n... (99997 more bytes)\" \"... (100000 more bytes)\""
        );
        let many = vec![value(vec![0; 1000]); 1000];
        let shown = arguments(&many);
        assert!(shown.len() < MAX_LINE_BYTES + 5000);
        assert!(shown.ends_with(r#""... (934 more arguments)""#), "{shown}");
    }

    fn shown_to(mailbox: &Mailbox) -> Vec<String> {
        let text = |message| match message {
            Message::Monitored(line) => {
                let (stamp, line) = line.split_once(' ').unwrap();
                let (seconds, micros) = stamp.split_once('.').unwrap();
                assert!(seconds.parse::<u64>().is_ok() && micros.len() == 6);
                line.to_owned()
            }
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| mailbox.take()).map(text).collect()
    }

    #[test]
    fn what_begins_anew_is_shown_once() {
        let monitors = Arc::new(Monitors::default());
        assert!(!monitors.any() && Shown::new(&monitors).is_none());
        let mailbox = || Arc::new(Mailbox::new(Limits::default(), CancellationToken::new()));
        let (one, two) = (mailbox(), mailbox());
        let entered = [(1, &one), (2, &two)].map(|(id, m)| monitors.enter(id, m.clone()));
        let peer = Source::Client(SocketAddr::from(([127, 0, 0, 1], 7)));
        let mut shown = Shown::new(&monitors).unwrap();
        shown.add(3, peer, "\"eval\"");
        shown.stays();
        for _ in 0..2 {
            shown.forget();
            shown.add(4, Source::Script, "\"get\"");
        }
        assert!(!one.has_any());
        shown.tell();
        let expected = ["[3 127.0.0.1:7] \"eval\"", "[4 lua] \"get\""];
        assert_eq!(shown_to(&one), expected);
        assert_eq!(shown_to(&two), expected);
        // no more is held than a bound
        let long = "x".repeat(MOST_HELD_BYTES / 2);
        (0..3).for_each(|_| shown.add(0, peer, &long));
        // the third is held, and forgotten
        assert_eq!(shown_to(&one).len(), 2);
        shown.forget();
        shown.tell();
        assert!(!one.has_any());
        drop(entered);
        assert!(!monitors.any());
    }
}
