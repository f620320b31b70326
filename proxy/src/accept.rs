//! Where clients come in.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    apply::{Context, Stats},
    client_tls::ClientTls,
    session::Session,
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
            _ if is_protected(context, peer) => Some(DENIED),
            None => Some("-ERR max number of clients reached\r\n"),
            Some(_) => None,
        };
        if let Some(text) = refusal {
            Stats::count(&context.stats.rejected_connections);
            match &door.tls {
                // it would not be understood
                Some(_) => drop(stream),
                None => refuse(stream, text).await,
            }
            continue;
        }
        Stats::count(&context.stats.connections);
        let _ = scatterhoard_node::socket::tune(&stream);
        let (context, tls, stop) = (context.clone(), door.tls.clone(), stop.clone());
        sessions.spawn(async move {
            let stream = match tls {
                None => stream.into(),
                Some(tls) => match stop.run_until_cancelled(tls.accept(stream)).await {
                    Some(Ok(stream)) => stream,
                    Some(Err(error)) => {
                        tracing::debug!(%peer, %error, "no TLS");
                        return;
                    }
                    None => return,
                },
            };
            let session = Session::new(stream, peer, context);
            if let Err(error) = session.run(stop).await {
                tracing::debug!(%peer, %error, "session ended");
            }
            drop(permit);
        });
    }
}

/// Without a password nobody from elsewhere is served.
fn is_protected(context: &Context, peer: SocketAddr) -> bool {
    let config = &context.config;
    config.protected_mode && config.acl.anybody().is_some() && !peer.ip().is_loopback()
}

const DENIED: &str = "-DENIED Scatterhoard is in protected mode: without passwords it serves clients on this machine only. To accept others on a trusted network, start it with --protected-mode false.\r\n";

/// Best effort, and never waits for a client that does not read.
async fn refuse(mut stream: TcpStream, text: &str) {
    let _ = timeout(Duration::from_millis(10), stream.write_all(text.as_bytes())).await;
}
