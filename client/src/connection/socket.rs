//! Sockets to servers, plain or TLS, up to the end of the handshake.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Incoming, handshake, member::Place, send};
use crate::{
    Error, Options,
    cluster::Address,
    metrics::Clock,
    protocol::{Limits, Parser, Reply, Request},
};

/// A byte stream in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that is ready for requests.
pub(crate) type Connection = Incoming<Box<dyn Stream>>;

/// Connects, within the time for that.
pub(crate) async fn connect(place: &Place) -> Result<Connection, Error> {
    let limit = place.options.connect_timeout;
    let clock = Clock::begin(&place.options);
    let result = timeout(limit, connected(place)).await;
    let result = result.unwrap_or(Err(Error::Deadline {
        what: "connection",
        limit,
        sent: false,
    }));
    let is_again = result.is_ok() && place.replaces_one();
    let error = result.as_ref().err();
    clock.connection(&place.address.to_string(), is_again, error);
    result
}

async fn connected(place: &Place) -> Result<Connection, Error> {
    let (options, address) = (&*place.options, &place.address);
    let failed = |why: io::Error| Error::Connect {
        address: address.to_string(),
        why: Arc::new(why),
    };
    #[cfg(feature = "embedded")]
    let inside = options.inside.as_ref().map(|inside| inside.connect());
    #[cfg(not(feature = "embedded"))]
    let inside: Option<io::Result<Box<dyn Stream>>> = None;
    let stream = match inside {
        Some(stream) => stream.map_err(failed)?,
        None => dial(options, address).await?.map_err(failed)?,
    };
    let limits = Limits {
        held_bytes: options.value_limit_bytes,
        ..Limits::default()
    };
    let mut connection = Incoming::new(stream, Parser::new(limits));
    if shake_hands(&mut connection, options).await? {
        place.is_of_cluster();
    }
    Ok(connection)
}

async fn dial(options: &Options, address: &Address) -> Result<io::Result<Box<dyn Stream>>, Error> {
    let tls = match &options.tls {
        None if options.wants_tls => {
            return Err(Error::usage("rediss:// needs certificates: Options::tls"));
        }
        None => None,
        Some(tls) => {
            let name = ServerName::try_from(address.host.clone())
                .map_err(|error| Error::usage(format!("host for TLS: {error}")))?;
            Some((TlsConnector::from(Arc::clone(&tls.config)), name))
        }
    };
    let connected = async {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.set_nodelay(true)?;
        Ok(match tls {
            None => Box::new(tcp) as Box<dyn Stream>,
            Some((connector, name)) => Box::new(connector.connect(name, tcp).await?),
        })
    };
    Ok(connected.await)
}

/// Returns whether the server has said that it belongs to a cluster.
async fn shake_hands(connection: &mut Connection, options: &Options) -> Result<bool, Error> {
    // the time for all of it is limited by who calls
    const ANY: Duration = Duration::from_secs(3600);
    let reply = ask(connection, &[handshake::hello(options)], ANY).await?;
    let is_resp3 = handshake::speaks_resp3(reply.first())?;
    let is_cluster = reply.first().is_some_and(handshake::is_of_cluster);
    let steps = handshake::steps(options, is_resp3);
    let requests: Vec<_> = steps.iter().map(|step| step.request.clone()).collect();
    let replies = ask(connection, &requests, ANY).await?;
    for (step, reply) in steps.iter().zip(&replies) {
        step.check(reply)?;
    }
    Ok(is_cluster)
}

/// Sends requests and reads as many replies.
async fn ask(
    connection: &mut Connection,
    requests: &[Request],
    stall: Duration,
) -> Result<Vec<Reply>, Error> {
    let unsent = |failure: super::Failure| failure.into_error(false);
    let mut segments: VecDeque<_> = requests
        .iter()
        .flat_map(|request| request.encode().segments)
        .collect();
    send(&mut connection.io, &mut segments, stall)
        .await
        .map_err(unsent)?;
    let mut replies = Vec::with_capacity(requests.len());
    for _ in requests {
        replies.push(connection.reply(stall, 1 << 20).await.map_err(unsent)?);
    }
    Ok(replies)
}
