//! Where instances dial in. A link is opened only for the hello that carries
//! the one-time token of the invocation under way, inside TLS if links are TLS.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use scatterhoard_node::conduit::{self, Acceptor, Reader, Writer};
use scatterhoard_wire::{
    SPOKEN, Versions, frame,
    message::{Hello, Message},
    stream::Assembler,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};

use super::{
    Pool,
    instances::Meeting,
    lifecycle::{Action, Event},
    link::{self, Link, Notice},
    node::{About, Node, Second},
};

const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A hello is about 100 bytes, and nothing may follow it before the welcome.
const MAX_HELLO_BYTES: usize = 4096;

/// Where links come from.
pub enum Links {
    /// Nodes dial.
    Tcp(TcpListener),
    /// From nodes within this process: simulated ones.
    Local(mpsc::Receiver<(Reader, Writer)>),
}

/// Accepts links until the pool stops.
pub(super) async fn accept(pool: Arc<Pool>, links: Links) {
    match links {
        Links::Tcp(listener) => accept_tcp(pool, listener).await,
        Links::Local(links) => accept_local(pool, links).await,
    }
}

async fn accept_local(pool: Arc<Pool>, mut links: mpsc::Receiver<(Reader, Writer)>) {
    let mut id = 0;
    while let Some(Some(halves)) = pool.stop.run_until_cancelled(links.recv()).await {
        id += 1;
        let owner = pool.clone();
        pool.tasks.spawn(async move {
            let meet = Guest::new(halves, owner.settings.speaks).greet();
            if let Err(error) = serve(&owner, meet, id).await {
                tracing::warn!(%error, "link refused");
            }
        });
    }
}

async fn accept_tcp(pool: Arc<Pool>, listener: TcpListener) {
    let mut id = 0;
    while let Some(accepted) = pool.stop.run_until_cancelled(listener.accept()).await {
        id += 1;
        match accepted {
            Ok((stream, peer)) => {
                let owner = pool.clone();
                pool.tasks.spawn(async move {
                    let settings = &owner.settings;
                    let meet = meet(settings.link_tls.as_ref(), stream, settings.speaks);
                    if let Err(error) = serve(&owner, meet, id).await {
                        tracing::warn!(%peer, %error, "link refused");
                    }
                });
            }
            Err(error) => {
                // out of descriptors: let others end first
                tracing::warn!(%error, "cannot accept links");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(
    pool: &Arc<Pool>,
    meet: impl Future<Output = io::Result<(Guest, Hello)>>,
    id: u64,
) -> io::Result<()> {
    let stranger = pool.strangers.enter(id);
    let (guest, hello) = tokio::select! {
        biased;
        met = tokio::time::timeout(HELLO_TIMEOUT, meet) => met??,
        () = stranger.dismissed.cancelled() => return Err(io::Error::other("too many connections")),
        () = pool.stop.cancelled() => return Ok(()),
    };
    drop(stranger);
    match admit(pool, &hello) {
        Ok((node, Place::Main)) => {
            run(pool, &node, guest, hello).await;
            Ok(())
        }
        Ok((node, Place::Beside)) => {
            run_beside(pool, &node, guest, hello).await;
            Ok(())
        }
        Err(why) => {
            guest.reject(why).await?;
            Err(io::Error::other(why))
        }
    }
}

/// Hears who has dialled, and opens no link. For who only wants to know whether nodes
/// get here.
pub(crate) async fn turn_away(
    tls: Option<&Acceptor>,
    stream: TcpStream,
    why: &str,
) -> io::Result<Hello> {
    let (guest, hello) = tokio::time::timeout(HELLO_TIMEOUT, meet(tls, stream, SPOKEN)).await??;
    guest.reject(why).await?;
    Ok(hello)
}

/// Somebody who dialled.
struct Guest {
    reader: Reader,
    writer: Writer,
    assembler: Assembler,
}

/// Shakes hands, if links are TLS, and waits for the hello, in any of these versions.
async fn meet(
    tls: Option<&Acceptor>,
    stream: TcpStream,
    speaks: Versions,
) -> io::Result<(Guest, Hello)> {
    scatterhoard_node::socket::tune(&stream)?;
    let halves = match tls {
        Some(tls) => tls.accept(stream).await?,
        None => conduit::plain(stream),
    };
    Guest::new(halves, speaks).greet().await
}

impl Guest {
    fn new((reader, writer): (Reader, Writer), speaks: Versions) -> Self {
        Self {
            reader,
            writer,
            assembler: Assembler::new(speaks),
        }
    }

    async fn greet(mut self) -> io::Result<(Self, Hello)> {
        let hello = self.read_hello().await?;
        Ok((self, hello))
    }

    async fn reject(self, why: &str) -> io::Result<()> {
        let (version, mut out) = (self.assembler.version(), BytesMut::new());
        frame::encode(version, &Message::Reject(why.into()), 0, 0, &mut out);
        tokio::time::timeout(HELLO_TIMEOUT, self.writer.write_all(&out)).await?
    }

    async fn read_hello(&mut self) -> io::Result<Hello> {
        let (assembler, mut total) = (&mut self.assembler, 0);
        loop {
            let n = self.reader.read_buf(&mut assembler.spare()).await?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            assembler.filled(n);
            total += n;
            if let Some(frame) = assembler.next_frame().map_err(io::Error::other)? {
                return match frame.message {
                    Message::Hello(hello) => Ok(hello),
                    other => Err(io::Error::other(format!("expected hello, got {other:?}"))),
                };
            }
            if total > MAX_HELLO_BYTES {
                return Err(io::Error::other("expected hello, got something longer"));
            }
        }
    }
}

/// Which of a node's links it is.
enum Place {
    Main,
    Beside,
}

fn admit(pool: &Arc<Pool>, hello: &Hello) -> Result<(Arc<Node>, Place), &'static str> {
    let entry = pool.tokens.lock().remove(&hello.token);
    let (node, invocation) = entry.ok_or("no invocation expects this token")?;
    if invocation != hello.invocation {
        return Err("the token is of another invocation");
    }
    let node = pool.node(node).ok_or("no such node")?;
    pool.supersede(hello.highest_epoch);
    pool.platform.works();
    match node.step(Event::Hello(invocation), Instant::now()) {
        Some(Action::Admit) => Ok((node.clone(), Place::Main)),
        Some(Action::AdmitCompanion) => Ok((node.clone(), Place::Beside)),
        _ => Err("the invocation was given up"),
    }
}

async fn run(pool: &Arc<Pool>, node: &Arc<Node>, guest: Guest, hello: Hello) {
    let contact = node.met(About {
        instance: hello.instance,
        birth_unix_ms: hello.birth_unix_ms,
        held: hello.held,
    });
    pool.met(node, hello.instance, contact);
    let link = Link::new(hello.invocation, guest.assembler.version(), guest.writer);
    // first in the queue, before anybody can see the link; written together with what is
    // behind it
    link.precede(&Message::Welcome);
    node.attach(link.clone(), pool.floor());
    if pool.stop.is_cancelled() {
        link.send(&Message::Release);
    }
    let halves = (guest.reader, guest.assembler);
    serve_link(pool, node, &link, halves).await;
}

/// The second instance of a round: nobody but the round asks it.
async fn run_beside(pool: &Arc<Pool>, node: &Arc<Node>, guest: Guest, hello: Hello) {
    let now = Instant::now();
    let met = node.met_beside(hello.instance, hello.birth_unix_ms, now);
    if let Some(survived) = met.survived {
        let mut warmth = pool.warmth.lock();
        warmth.contact(met.silence, met.age, survived, now);
    }
    tracing::debug!(node = %node.id, instance = %hello.instance, ?met, "second instance");
    let link = Link::new(hello.invocation, guest.assembler.version(), guest.writer);
    link.precede(&Message::Welcome);
    link.send(&Message::DeleteBelow(pool.floor()));
    if pool.stop.is_cancelled() || met.meeting == Meeting::Same {
        link.send(&Message::Release);
    }
    node.attach_beside(Second {
        link: link.clone(),
        instance: hello.instance,
        birth_unix_ms: hello.birth_unix_ms,
        held: hello.held,
    });
    let halves = (guest.reader, guest.assembler);
    serve_link(pool, node, &link, halves).await;
}

async fn serve_link(
    pool: &Arc<Pool>,
    node: &Arc<Node>,
    link: &Arc<Link>,
    (reader, assembler): (Reader, Assembler),
) {
    let (invocation, version) = (link.invocation(), assembler.version());
    tracing::debug!(node = %node.id, %invocation, %version, "link open");
    // which of the node's links it is may change
    let notice = |notice| match notice {
        Notice::Held(held) => node.held(invocation, held),
        Notice::Deleted => node.delete_confirmed(invocation),
        Notice::Goodbye => pool.drive(node, Event::Goodbye(invocation)),
    };
    let end = link::run(link, reader, assembler, &notice).await;
    if let Some(error) = end {
        metrics::counter!("scatterhoard_links_lost_total").increment(1);
        tracing::info!(node = %node.id, %invocation, %error, "link lost");
    }
    pool.drive(node, Event::LinkLost(invocation));
}
