//! What we set on every TCP socket, at both ends of a link and towards clients.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Small frames go out at once.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

/// The peer's system is asked whether it is still there after so much silence, three
/// times, a third of it apart, as Redis does.
pub fn keep_alive(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    let apart = (silence / 3).max(Duration::from_secs(1));
    let asked = TcpKeepalive::new()
        .with_time(silence)
        .with_interval(apart)
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&asked)
}

/// A connection on which nothing is paced, if it stays on the loopback.
///
/// A machine whose default is BBR paces even there, with a timer for every few
/// packets: a hop costs 0.41 instead of 0.33 s of CPU per GB. A socket that was
/// BBR's goes on pacing, so it must never be (docs/performance.md).
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.ip().is_loopback() {
        unpaced(SockRef::from(&socket));
    }
    let stream = socket.connect(address).await?;
    tune(&stream)?;
    Ok(stream)
}

/// The same for the connections that a listener accepts.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    if listener.local_addr()?.ip().is_loopback() {
        unpaced(SockRef::from(&listener));
    }
    Ok(listener)
}

fn unpaced(socket: SockRef<'_>) {
    // always there and never paced; without it the system's default does
    let _ = socket.set_tcp_congestion(b"reno");
}
