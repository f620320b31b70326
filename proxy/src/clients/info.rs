//! What is known of one connection, and its line in CLIENT LIST.

use std::{net::SocketAddr, time::Instant};

use bytes::Bytes;

/// Kinds of connections that CLIENT LIST and CLIENT KILL know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ordinary clients.
    Normal,
    /// Our replication source: there is none.
    Master,
    /// Our replicas: there are none.
    Replica,
    /// Subscribers.
    PubSub,
}

/// What is known of one connection.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Where it came to.
    pub local: SocketAddr,
    /// The number of its socket.
    pub descriptor: i32,
    /// CLIENT SETNAME.
    pub name: Bytes,
    /// CLIENT SETINFO lib-name.
    pub lib_name: Bytes,
    /// CLIENT SETINFO lib-ver.
    pub lib_ver: Bytes,
    /// Who it is; `default` for who has not said.
    pub user: Bytes,
    /// Selected database.
    pub db: u8,
    /// RESP version.
    pub resp: u8,
    /// Since when.
    pub since: Instant,
    /// Since when it has been waited for; none: it has something under way.
    pub idle_since: Option<Instant>,
    /// Its last command.
    pub command: &'static str,
    /// Channels, patterns and channels of shards that it subscribes to.
    pub subscriptions: [usize; 3],
    /// What is queued since MULTI, and its bytes.
    pub queued: Option<(usize, usize)>,
    /// CLIENT TRACKING: where to (or 0), whether BCAST, whether nobody is there.
    pub tracking: Option<(u64, bool, bool)>,
    /// MONITOR.
    pub is_monitor: bool,
    /// CLIENT NO-EVICT.
    pub is_kept: bool,
    /// Bytes that have come and wait, and what their buffer has room for.
    pub input: (usize, usize),
    /// Bytes of the arguments that have come of the next request.
    pub argument_bytes: usize,
    /// Bytes of replies that wait for the socket.
    pub output_bytes: usize,
}

/// What a connection takes besides its buffers, about.
const CONNECTION_BYTES: usize = 2048;

impl ClientInfo {
    /// Of a connection just made.
    pub(super) fn new(peer: SocketAddr, local: SocketAddr, descriptor: i32) -> Self {
        Self {
            peer,
            local,
            descriptor,
            name: Bytes::new(),
            lib_name: Bytes::new(),
            lib_ver: Bytes::new(),
            user: Bytes::from_static(b"default"),
            db: 0,
            resp: 2,
            since: Instant::now(),
            idle_since: None,
            command: "NULL",
            subscriptions: [0; 3],
            queued: None,
            tracking: None,
            is_monitor: false,
            is_kept: false,
            input: (0, 0),
            argument_bytes: 0,
            output_bytes: 0,
        }
    }

    /// What kind it is.
    pub fn kind(&self) -> Kind {
        match self.subscriptions {
            [0, 0, 0] => Kind::Normal,
            _ => Kind::PubSub,
        }
    }

    fn flags(&self) -> String {
        let flags = [
            ('O', self.is_monitor),
            ('P', self.kind() == Kind::PubSub),
            ('x', self.queued.is_some()),
            ('t', self.tracking.is_some()),
            ('R', self.tracking.is_some_and(|(_, _, broken)| broken)),
            ('B', self.tracking.is_some_and(|(_, bcast, _)| bcast)),
            ('e', self.is_kept),
        ];
        let set: String = flags
            .iter()
            .filter(|(_, set)| *set)
            .map(|(f, _)| f)
            .collect();
        match set.is_empty() {
            true => "N".into(),
            false => set,
        }
    }

    /// Redis's fields. Buffers for replies are not kept, so there is no `rbs`.
    pub fn line(&self, id: u64) -> String {
        let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
        let [sub, psub, ssub] = self.subscriptions;
        let (waiting, room) = self.input;
        let (queued, queued_bytes) = match self.queued {
            Some((count, bytes)) => (i64::try_from(count).unwrap_or(i64::MAX), bytes),
            None => (-1, 0),
        };
        let output = self.output_bytes;
        let total = CONNECTION_BYTES + waiting + room + self.argument_bytes + queued_bytes + output;
        format!(
            "id={id} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={sub} \
             psub={psub} ssub={ssub} multi={queued} qbuf={waiting} qbuf-free={room} \
             argv-mem={} multi-mem={queued_bytes} obl={output} oll=0 omem=0 tot-mem={total} \
             events={} cmd={} user={} redir={} resp={} lib-name={} lib-ver={}\n",
            self.peer,
            self.local,
            self.descriptor,
            text(&self.name),
            self.since.elapsed().as_secs(),
            self.idle_since.map_or(0, |since| since.elapsed().as_secs()),
            self.flags(),
            self.db,
            self.argument_bytes,
            if output > 0 { "rw" } else { "r" },
            self.command,
            text(&self.user),
            self.tracking
                .map_or(-1, |(redirect, ..)| redirect.cast_signed()),
            self.resp,
            text(&self.lib_name),
            text(&self.lib_ver),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{super::filter::Filter, *};

    fn info() -> ClientInfo {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        ClientInfo::new(address(1), address(6379), 9)
    }

    #[test]
    fn a_line_has_redis_fields_in_its_order() {
        let mut info = info();
        info.queued = Some((2, 100));
        info.subscriptions = [1, 2, 0];
        info.is_kept = true;
        info.is_monitor = true;
        info.command = "get";
        assert_eq!(
            info.line(7),
            "id=7 addr=127.0.0.1:1 laddr=127.0.0.1:6379 fd=9 name= age=0 idle=0 flags=OPxe db=0 \
             sub=1 psub=2 ssub=0 multi=2 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=100 obl=0 oll=0 \
             omem=0 tot-mem=2148 events=r cmd=get user=default redir=-1 resp=2 lib-name= lib-ver=\n"
        );
    }

    #[test]
    fn a_filter_means_what_fits_it_altogether() {
        let info = info();
        let fits = |change: fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            filter.fits(7, 7, &info)
        };
        assert!(fits(|_| {}));
        assert!(fits(|f| f.id = Some(7)) && !fits(|f| f.id = Some(8)));
        assert!(fits(|f| f.kind = Some(Kind::Normal)) && !fits(|f| f.kind = Some(Kind::PubSub)));
        assert!(fits(|f| f.address = Some("127.0.0.1:1".into())));
        assert!(!fits(|f| f.address = Some("127.0.0.1:6379".into())));
        assert!(fits(|f| f.local_address = Some("127.0.0.1:6379".into())));
        assert!(fits(|f| f.user = Some("default".into())) && !fits(|f| f.user = Some("al".into())));
        assert!(!fits(|f| f.skips_me = true));
        assert!(!fits(|f| {
            f.id = Some(7);
            f.user = Some("al".into());
        }));
    }
}
