//! Servers under test: redis-server, the proxy, and ones that say what a test
//! wants them to.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use scatterhoard_client::{Client, Options};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const START_LIMIT: Duration = Duration::from_secs(40);

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    pub(crate) address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_address() -> SocketAddr {
    // below the ports that the system gives to whoever dials or binds port 0
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16;
    loop {
        let offset = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], 12_000 + offset % 20_000));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

impl Server {
    pub(crate) fn redis(arguments: &[&str]) -> Self {
        Self::redis_at(free_address(), arguments)
    }

    pub(crate) fn redis_at(address: SocketAddr, arguments: &[&str]) -> Self {
        let port = address.port().to_string();
        let mut all = vec!["--bind", "127.0.0.1", "--port", &port];
        all.extend([
            "--save",
            "",
            "--appendonly",
            "no",
            "--enable-debug-command",
            "yes",
        ]);
        all.extend(arguments);
        let mut server = Self::start("redis-server", &all, address);
        let end = Instant::now() + START_LIMIT;
        while std::net::TcpStream::connect(address).is_err() {
            server.assert_starting(end);
        }
        server
    }

    pub(crate) fn scatterhoard(arguments: &[&str]) -> Self {
        let program = scatterhoard();
        let mut all = vec!["serve", "--admin", "127.0.0.1:0", "--node-memory-mb", "128"];
        if !arguments.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(arguments);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self::start(program.to_str().unwrap(), &all, nowhere);
        let end = Instant::now() + START_LIMIT;
        loop {
            let text = server.text("out");
            if let Some((_, rest)) = text.split_once("scatterhoard is ready: redis://")
                && let Some((address, _)) = rest.split_once(['\n', '/'])
            {
                server.address = address.parse().unwrap();
                return server;
            }
            server.assert_starting(end);
        }
    }

    fn start(program: &str, arguments: &[&str], address: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name| File::create(folder.path().join(name)).unwrap();
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SCATTERHOARD_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
        Self {
            child,
            folder,
            address,
        }
    }

    #[track_caller]
    fn assert_starting(&mut self, end: Instant) {
        let status = self.child.try_wait().unwrap();
        assert!(
            status.is_none() && Instant::now() < end,
            "not ready ({status:?}):\n{}{}",
            self.text("out"),
            self.text("err")
        );
        std::thread::sleep(Duration::from_millis(5));
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join(name)).unwrap()).into_owned()
    }

    pub(crate) fn options(&self) -> Options {
        Options::new("127.0.0.1", self.address.port()).request_timeout(START_LIMIT)
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.options()).await.unwrap()
    }
}

fn built() -> PathBuf {
    folder().join("scatterhoard")
}

/// Where programs are built.
pub(crate) fn folder() -> PathBuf {
    // target/debug/deps/it-...
    let here = std::env::current_exe().unwrap();
    let folder = here.parent().and_then(|deps| deps.parent());
    folder.unwrap().to_owned()
}

/// The program that was named, or built.
pub(crate) fn scatterhoard() -> PathBuf {
    let program = std::env::var_os("SCATTERHOARD_BIN").map_or_else(built, PathBuf::from);
    assert!(
        program.is_file(),
        "{} is not there: cargo build --workspace --bins, or set SCATTERHOARD_BIN",
        program.display()
    );
    program
}

/// Both servers, and the proxy within the program, one after the other.
pub(crate) async fn each<F: Future<Output = ()>>(test: impl Fn(Client) -> F) {
    for server in [Server::redis(&[]), Server::scatterhoard(&[])] {
        test(server.client().await).await;
    }
    #[cfg(feature = "embedded")]
    crate::embedded::within(test).await;
}

/// A server that does what the test says with each connection, in their order;
/// further ones are ended at once.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(usize, Peer) -> F + Send + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = async move {
            let mut connections = tokio::task::JoinSet::new();
            for number in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(serve(number, Peer { socket }));
            }
        };
        let task = tokio::spawn(task);
        Self { address, task }
    }

    pub(crate) fn options(&self) -> Options {
        Options::new("127.0.0.1", self.address.port()).request_timeout(START_LIMIT)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client, from a fake server's side.
pub(crate) struct Peer {
    socket: TcpStream,
}

impl Peer {
    /// The next request, its words; none at the end.
    pub(crate) async fn request(&mut self) -> Option<Vec<String>> {
        let count = self.line('*').await?;
        let mut words = vec![];
        for _ in 0..count {
            let len = self.line('$').await?;
            let mut word = vec![0; len + 2];
            self.socket.read_exact(&mut word).await.ok()?;
            word.truncate(len);
            words.push(String::from_utf8_lossy(&word).into_owned());
        }
        Some(words)
    }

    async fn line(&mut self, kind: char) -> Option<usize> {
        let mut line = String::new();
        while !line.ends_with("\r\n") {
            line.push(self.socket.read_u8().await.ok()?.into());
        }
        Some(line.strip_prefix(kind).unwrap().trim_end().parse().unwrap())
    }

    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.socket.write_all(bytes.as_ref()).await;
    }

    /// Answers requests, those of the handshake as a member of a cluster does.
    pub(crate) async fn answer_as_member(mut self, answer: impl Fn(&[String]) -> String) {
        while let Some(words) = self.request().await {
            let said = match words[0].as_str() {
                "HELLO" => "%2\r\n+proto\r\n:3\r\n+mode\r\n+cluster\r\n".into(),
                "CLIENT" => "-ERR unknown subcommand\r\n".into(),
                _ => answer(&words),
            };
            self.say(said).await;
        }
    }

    /// Shakes hands as Redis 7.0 does; returns the first request behind that.
    pub(crate) async fn welcome(&mut self) -> Option<Vec<String>> {
        loop {
            let words = self.request().await?;
            match words[0].as_str() {
                "HELLO" => self.say("%1\r\n+proto\r\n:3\r\n").await,
                "CLIENT" => self.say("-ERR unknown subcommand\r\n").await,
                _ => return Some(words),
            }
        }
    }

    /// The same up to the first bytes of a SET's body.
    pub(crate) async fn welcome_to_body(&mut self) {
        loop {
            let count = self.line('*').await.unwrap();
            let mut words = vec![];
            for n in 0..count {
                let len = self.line('$').await.unwrap();
                if n == 2 && words[0] == b"SET" {
                    return;
                }
                let mut word = vec![0; len + 2];
                self.socket.read_exact(&mut word).await.unwrap();
                word.truncate(len);
                words.push(word);
            }
            match &words[0][..] {
                b"HELLO" => self.say("%1\r\n+proto\r\n:3\r\n").await,
                _ => self.say("-ERR unknown subcommand\r\n").await,
            }
        }
    }
}

/// What a member answers, by the words of the request.
pub(crate) type Answer = Arc<dyn Fn(&[String]) -> String + Send + Sync>;

pub(crate) async fn member(answer: Answer) -> Fake {
    Fake::start(move |_, peer: Peer| {
        let answer = Arc::clone(&answer);
        async move { peer.answer_as_member(|words| answer(words)).await }
    })
    .await
}

/// CLUSTER SLOTS, when one has all.
pub(crate) fn all_at(port: u16) -> String {
    format!("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$2\r\nid\r\n")
}
