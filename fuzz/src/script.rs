//! What a client does, out of a fuzzer's bytes: mostly what it sends, as it is.
//!
//! The first bytes are a head: buffer of the connection, longest piece, and how long
//! the client takes no replies. What follows is sent, but for bytes that say
//! something else; they are not in UTF-8, and a dictionary has them.

use std::time::Duration;

use crate::input::Input;

/// Sends the last bytes again: how many, and how often (two bytes, low one first).
pub const AGAIN: u8 = 0xf8;
/// A piece ends here.
pub const CUT: u8 = 0xf9;
/// A pause: its square in milliseconds.
pub const PAUSE: u8 = 0xfa;
/// Hangs up, and does not take what is on its way.
pub const HANG_UP: u8 = 0xfb;
/// Says that it is done, and takes what is on its way.
pub const END: u8 = 0xfc;

/// Bytes of the head.
pub const HEAD: usize = 3;

const MOST_SENT: usize = 2 << 20;
const MOST_PIECES: usize = 500;

/// What is done next.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// This is sent at once.
    Send(Vec<u8>),
    /// Nothing, for so long.
    Pause(Duration),
    /// The connection ends, in both directions.
    HangUp,
}

/// A client's life.
#[derive(Debug)]
pub struct Script {
    /// Bytes that the network takes though nobody has read them.
    pub buffer: usize,
    /// No reply is taken for so long.
    pub deaf_for: Duration,
    /// In order. Behind them it says that it is done, unless it has hung up.
    pub events: Vec<Event>,
}

impl Script {
    /// What these bytes say.
    pub fn new(data: &[u8]) -> Self {
        let mut input = Input(data);
        let buffer = 1 << (4 + input.u8() % 13);
        let piece = usize::from(input.u8());
        let deaf_for = square(input.u8());
        let mut events = Vec::new();
        let mut bytes = Vec::new();
        let mut sent = 0;
        while !input.is_empty() {
            let byte = input.u8();
            let before = bytes.len();
            match byte {
                AGAIN => {
                    let (len, times) = (1 + usize::from(input.u8()), usize::from(input.u16()));
                    let start = bytes.len().saturating_sub(len);
                    let again = bytes[start..].to_vec();
                    let room = (MOST_SENT - sent) / again.len().max(1);
                    (0..times.min(room)).for_each(|_| bytes.extend_from_slice(&again));
                }
                CUT => events.push(Event::Send(std::mem::take(&mut bytes))),
                PAUSE => {
                    events.push(Event::Send(std::mem::take(&mut bytes)));
                    events.push(Event::Pause(square(input.u8())));
                }
                HANG_UP => {
                    events.push(Event::Send(std::mem::take(&mut bytes)));
                    events.push(Event::HangUp);
                    break;
                }
                END => break,
                byte => bytes.push(byte),
            }
            sent += bytes.len().saturating_sub(before);
            if sent >= MOST_SENT {
                break;
            }
        }
        events.push(Event::Send(bytes));
        Self {
            buffer,
            deaf_for,
            events: cut(events, piece, sent),
        }
    }

    /// Whether it ends without taking the rest.
    pub fn hangs_up(&self) -> bool {
        self.events.contains(&Event::HangUp)
    }

    /// Everything that it sends.
    pub fn sent(&self) -> Vec<u8> {
        let mut sent = Vec::new();
        for event in &self.events {
            if let Event::Send(bytes) = event {
                sent.extend_from_slice(bytes);
            }
        }
        sent
    }
}

fn square(n: u8) -> Duration {
    Duration::from_millis(u64::from(n) * u64::from(n))
}

/// Cuts what is sent into pieces of that length, 0 for none, with a millisecond
/// between them; not too many.
fn cut(events: Vec<Event>, piece: usize, sent: usize) -> Vec<Event> {
    if piece == 0 {
        return events;
    }
    let piece = piece.max(sent / MOST_PIECES);
    let mut pieces = Vec::new();
    for event in events {
        match event {
            Event::Send(bytes) => {
                for piece in bytes.chunks(piece) {
                    pieces.push(Event::Send(piece.to_vec()));
                    pieces.push(Event::Pause(Duration::from_millis(1)));
                }
            }
            Event::HangUp => {
                pieces.push(event);
                break;
            }
            event => pieces.push(event),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_sent_as_they_are_but_for_those_that_say_something_else() {
        let mut data = vec![0, 0, 3];
        data.extend_from_slice(b"PING\r\n");
        data.extend_from_slice(&[
            AGAIN, 5, 2, 0, PAUSE, 10, b'x', AGAIN, 0, 0, 16, HANG_UP, b'y',
        ]);
        let script = Script::new(&data);
        assert_eq!((script.buffer, script.deaf_for), (16, square(3)));
        let [pings, pause, xs, end, rest] = &script.events[..] else {
            panic!("{:?}", script.events)
        };
        assert_eq!(*pings, Event::Send(b"PING\r\n".repeat(3)));
        assert_eq!(*pause, Event::Pause(Duration::from_millis(100)));
        assert_eq!(*xs, Event::Send(vec![b'x'; 4097]));
        assert!(*end == Event::HangUp && *rest == Event::Send(Vec::new()));
    }

    #[test]
    fn nothing_makes_it_long() {
        let mut data = vec![0, 1, 0];
        for _ in 0..100 {
            data.extend_from_slice(&[b'a', AGAIN, 255, 255, 255]);
        }
        let script = Script::new(&data);
        assert!(script.sent().len() <= MOST_SENT + 1);
        assert!(script.events.len() <= 3 * MOST_PIECES);
    }
}
