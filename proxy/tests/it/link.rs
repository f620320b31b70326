//! The node's end of a link, by hand: frames over a socket that blocks.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use scatterhoard_wire::{
    Epoch, InstanceId, InvocationId, SPOKEN, Token, frame,
    message::{Held, Hello, Message},
    stream::{Assembler, Frame},
};

/// A connected socket that speaks frames.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    assembler: Assembler,
}

/// What reading a link gave.
pub(crate) enum Heard {
    Frame(Frame),
    Nothing,
    Closed,
}

impl Link {
    pub(crate) fn dial(proxy: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(proxy)?)
    }

    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            assembler: Assembler::default(),
        })
    }

    /// The next frame, waiting at most `limit` between two reads.
    pub(crate) fn hear(&mut self, limit: Duration) -> Heard {
        self.stream
            .set_read_timeout(Some(limit.max(Duration::from_millis(1))))
            .unwrap();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.assembler.next_frame() {
                Ok(Some(frame)) => return Heard::Frame(frame),
                Ok(None) => {}
                Err(_) => return Heard::Closed,
            }
            let mut spare = self.assembler.spare();
            let room = spare.remaining_mut().min(buffer.len());
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => return Heard::Closed,
                Ok(n) => {
                    spare.put_slice(&buffer[..n]);
                    self.assembler.filled(n);
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return Heard::Nothing;
                }
                Err(_) => return Heard::Closed,
            }
        }
    }

    pub(crate) fn say(
        &mut self,
        request: u32,
        message: &Message,
        payload: &[u8],
    ) -> io::Result<()> {
        self.stream.write_all(&encode(request, message, payload))
    }
}

pub(crate) fn encode(request: u32, message: &Message, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    frame::encode(SPOKEN.newest(), message, request, payload.len(), &mut out);
    out.extend_from_slice(payload);
    out
}

/// A hello of an instance that holds nothing.
pub(crate) fn hello(token: Token, invocation: InvocationId) -> Hello {
    Hello {
        token,
        instance: InstanceId(9),
        invocation,
        birth_unix_ms: 0,
        highest_epoch: Epoch(0),
        held: Held {
            bytes: 0,
            budget_bytes: 100 << 20,
            chunks: 0,
        },
    }
}
