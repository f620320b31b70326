//! What we set on every TCP socket, at both ends of a link and towards clients.

use std::io;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Small frames go out at once; on the loopback nothing is paced.
///
/// A machine whose default is BBR paces even there, with a timer for every few
/// packets: a hop costs 0.41 instead of 0.33 s of CPU per GB (docs/performance.md).
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if stream.peer_addr()?.ip().is_loopback() {
        // always there and never paced; without it the system's default does
        let _ = SockRef::from(stream).set_tcp_congestion(b"reno");
    }
    Ok(())
}
