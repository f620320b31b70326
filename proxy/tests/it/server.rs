//! The `scatterhoard` process under test.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_scatterhoard");
const START_LIMIT: Duration = Duration::from_secs(40);
/// Nothing that a client asks for may take longer.
pub(crate) const CLIENT_LIMIT: Duration = Duration::from_secs(40);
const READY: &str = "scatterhoard is ready: redis://";

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// The program with these arguments and nothing from the environment.
pub(crate) fn program(arguments: &[&str]) -> Command {
    program_within(&[], arguments)
}

/// The same, started by another program that is given the rest of its words.
fn program_within(outer: &[&str], arguments: &[&str]) -> Command {
    let mut words = outer.iter().chain(&[PROGRAM]).chain(arguments);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SCATTERHOARD_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the program to its end, which must come soon.
pub(crate) fn run(arguments: &[&str]) -> Output {
    run_to_its_end(program(arguments))
}

/// The same of a command of [`program`].
pub(crate) fn run_to_its_end(mut command: Command) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let [out, err] = ["out", "err"].map(|name| folder.path().join(name));
    let mut child = command
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let Some(status) = wait(&mut child, START_LIMIT) else {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("{command:?} did not end:\n{}", text(&err));
    };
    Output {
        status,
        stdout: std::fs::read(out).unwrap(),
        stderr: std::fs::read(err).unwrap(),
    }
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

fn text(path: &PathBuf) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// A port that is free now.
pub(crate) fn free_address() -> SocketAddr {
    // below the ports that the system gives to whoever dials or binds port 0:
    // between here and its use nobody gets it by chance
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
    /// A server with 12 or more local nodes of 128 MB and no hot tier, except
    /// where `arguments` say otherwise.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_within(&[], arguments)
    }

    /// The same in a mount namespace of its own, where `disk` is a file system of
    /// so many KiB.
    pub(crate) fn start_on_small_disk(disk: &str, kib: u32, arguments: &[&str]) -> Self {
        let mount = format!(r#"mount -t tmpfs -o size={kib}k none "$0" && exec "$@""#);
        let words = ["unshare", "--map-root-user", "--mount", "sh", "-c"];
        Self::start_within(&[&words[..], &[&mount, disk]].concat(), arguments)
    }

    /// The same where only so many files may be open.
    pub(crate) fn start_with_open_files(limit: u32, arguments: &[&str]) -> Self {
        let command = format!(r#"ulimit -n {limit} && exec "$0" "$@""#);
        Self::start_within(&["sh", "-c", &command], arguments)
    }

    fn start_within(outer: &[&str], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut all = vec!["serve"];
        let defaults = [
            ["--listen", "127.0.0.1:0"],
            ["--admin", "127.0.0.1:0"],
            ["--node-memory-mb", "128"],
            ["--hot-tier-mb", "0"],
        ];
        for pair in &defaults {
            if !arguments.contains(&pair[0]) {
                all.extend(pair);
            }
        }
        all.extend(arguments);
        let file = |name| File::create(folder.path().join(name)).unwrap();
        let child = program_within(outer, &all)
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self {
            child,
            folder,
            address: nowhere,
            admin: nowhere,
        };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&mut self) {
        let end = Instant::now() + START_LIMIT;
        loop {
            let out = text(&self.folder.path().join("out"));
            let behind = |mark: &str| {
                let (_, rest) = out.split_once(mark)?;
                let word = rest.split_inclusive(['/', '\n']).next()?;
                word.strip_suffix(['/', '\n'])?.parse().ok()
            };
            if let Some(address) = behind(READY) {
                self.address = address;
                self.admin = behind("admin   http://").unwrap_or(self.admin);
                return;
            }
            let status = self.child.try_wait().unwrap();
            assert!(
                status.is_none() && Instant::now() < end,
                "not ready ({status:?}):\n{out}{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        text(&self.folder.path().join("err"))
    }

    /// A client that waits no longer than [`CLIENT_LIMIT`].
    pub(crate) fn client(&self) -> redis::Connection {
        client(self.address)
    }

    pub(crate) fn socket(&self) -> TcpStream {
        connect(self.address)
    }

    /// An answer of the admin port; asserts that it is a good one.
    #[track_caller]
    pub(crate) fn admin(&self, method: &str, path: &str) -> String {
        let answer = self.admin_answers(method, path, &format!("host: {}", self.admin));
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer:?}");
        answer
    }

    /// What the admin port says to a request with these headers.
    pub(crate) fn admin_answers(&self, method: &str, path: &str, headers: &str) -> String {
        let mut stream = connect(self.admin);
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{headers}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The platform takes `count` instances away: SIGKILL, without notice.
    pub(crate) fn reclaim(&self, count: usize, seed: u64) {
        self.admin("POST", &format!("/pool/reclaim?count={count}&seed={seed}"));
    }

    /// The sum of a metric over its labels; 0 if it is not there.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let metrics = self.admin("GET", "/metrics");
        let values = metrics.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let base = series.split('{').next()?;
            (base == name).then(|| value.parse::<f64>().unwrap())
        });
        values.sum()
    }

    /// Resident bytes of the proxy process.
    pub(crate) fn resident_bytes(&self) -> u64 {
        memory_bytes(self.pid(), "VmRSS:")
    }

    /// Pids of its living child processes.
    pub(crate) fn children(&self) -> Vec<u32> {
        let own = self.pid().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| stat(*pid).is_some_and(|(_, parent)| parent == own))
            .collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    /// How it ended, if it does within `limit`.
    pub(crate) fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait(&mut self.child, limit)
    }

    /// SIGTERM, and exit code 0 soon.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.ended(Duration::from_secs(20));
        assert_eq!(status.and_then(|s| s.code()), Some(0), "{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(12).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            println!("the server's last words:\n{}", tail.join("\n"));
        }
    }
}

/// State letter and parent of a process; `None` when it is gone or a zombie.
pub(crate) fn stat(pid: u32) -> Option<(char, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let state = words.next()?.chars().next()?;
    (state != 'Z').then_some((state, words.next()?.to_owned()))
}

/// A figure in bytes of `/proc/PID/status`, such as `VmRSS:`.
pub(crate) fn memory_bytes(pid: u32, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(figure));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

pub(crate) fn client(address: SocketAddr) -> redis::Connection {
    let client = redis::Client::open(format!("redis://{address}")).unwrap();
    let connection = client.get_connection_with_timeout(CLIENT_LIMIT).unwrap();
    connection.set_read_timeout(Some(CLIENT_LIMIT)).unwrap();
    connection.set_write_timeout(Some(CLIENT_LIMIT)).unwrap();
    connection
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(CLIENT_LIMIT)).unwrap();
    stream.set_write_timeout(Some(CLIENT_LIMIT)).unwrap();
    stream
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "not so within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
