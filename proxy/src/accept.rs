//! Where clients come in.

use std::{net::SocketAddr, os::fd::AsRawFd, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    apply::{Context, Stats},
    client_tls::ClientTls,
    clients::Arrival,
    log_rate::LogRate,
    session::{Session, SessionError},
};

/// A port for clients.
pub struct Door {
    /// Bound.
    pub listener: TcpListener,
    /// TLS is spoken there.
    pub tls: Option<Arc<ClientTls>>,
}

/// Accepts clients for ever. Beyond the limit they are told and let go.
pub async fn accept(
    context: &Arc<Context>,
    doors: Vec<Door>,
    sessions: &TaskTracker,
    stop: &CancellationToken,
) {
    let room = Arc::new(Semaphore::new(context.config.max_clients));
    let doors = doors.into_iter();
    join_all(doors.map(|door| accept_at(context, door, &room, sessions, stop))).await;
}

async fn accept_at(
    context: &Arc<Context>,
    door: Door,
    room: &Arc<Semaphore>,
    sessions: &TaskTracker,
    stop: &CancellationToken,
) {
    loop {
        let (stream, peer) = match door.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // out of descriptors: let others end first
                tracing::warn!(%error, "cannot accept clients");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let permit = room.clone().try_acquire_owned().ok();
        let refusal = match &permit {
            _ if is_protected(context, peer) => Some(("protected mode", DENIED)),
            None => Some(("max_clients", "-ERR max number of clients reached\r\n")),
            Some(_) => None,
        };
        if let Some((reason, text)) = refusal {
            static LINES: LogRate = LogRate::new(5);
            Stats::count(&context.stats.rejected_connections);
            if let Some(left_out) = LINES.admits() {
                tracing::warn!(%peer, reason, left_out, "client refused");
            }
            match &door.tls {
                // it would not be understood
                Some(_) => drop(stream),
                None => refuse(stream, text).await,
            }
            continue;
        }
        Stats::count(&context.stats.connections);
        let _ = scatterhoard_node::socket::tune(&stream);
        let keepalive_s = context.limits.settings().tcp_keepalive_s;
        if keepalive_s > 0 {
            let silence = Duration::from_secs(keepalive_s);
            let _ = scatterhoard_node::socket::keep_alive(&stream, silence);
        }
        let arrival = Arrival {
            peer,
            local: stream.local_addr().unwrap_or(peer),
            descriptor: stream.as_raw_fd(),
            end: CancellationToken::new(),
        };
        let (context, tls, stop) = (context.clone(), door.tls.clone(), stop.clone());
        sessions.spawn(async move {
            if let Err(error) = serve(context, tls.as_deref(), stream, arrival, stop).await {
                tracing::debug!(%peer, %error, "session ended");
            }
            drop(permit);
        });
    }
}

/// Serves a client. Until it has shaken hands, and said who it is if it must, it is a
/// stranger.
async fn serve(
    context: Arc<Context>,
    tls: Option<&ClientTls>,
    stream: TcpStream,
    arrival: Arrival,
    stop: CancellationToken,
) -> Result<(), SessionError> {
    let is_strange = tls.is_some() || context.config.acl.anybody().is_none();
    let strangers = &context.clients.strangers;
    let stranger = is_strange.then(|| strangers.enter(arrival.end.clone()));
    let stream = match (tls, &stranger) {
        (Some(tls), Some(stranger)) => tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = arrival.end.cancelled() => return Err(SessionError::Ended),
            accepted = timeout_at(stranger.deadline, tls.accept(stream)) => {
                accepted.map_err(|_| SessionError::Stranger)??
            }
        },
        _ => stream.into(),
    };
    Session::new(stream, arrival, stranger, context)
        .run(stop)
        .await
}

/// Without a password nobody from elsewhere is served.
fn is_protected(context: &Context, peer: SocketAddr) -> bool {
    let config = &context.config;
    config.protected_mode && config.acl.anybody().is_some() && !is_here(peer)
}

/// Whether it is on this machine; also if it is written as an IPv6 address.
fn is_here(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

const DENIED: &str = "-DENIED Scatterhoard is in protected mode: without passwords it serves clients on this machine only. To accept others on a trusted network, start it with --protected-mode false.\r\n";

/// Best effort, and never waits for a client that does not read.
async fn refuse(mut stream: TcpStream, text: &str) {
    let _ = timeout(Duration::from_millis(10), stream.write_all(text.as_bytes())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_many_names() {
        let here = [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ];
        assert!(here.iter().all(|a| is_here(a.parse().unwrap())));
        let there = ["10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"];
        assert!(!there.iter().any(|a| is_here(a.parse().unwrap())));
    }
}
