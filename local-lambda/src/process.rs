//! Operating-system processes of instances: start, freeze, thaw, kill, reap.
//!
//! Invariants: a pid is signalled only while its process is unreaped, so never
//! a stranger's; a `Process` that is dropped is dead. All are spawned by one
//! thread that lives as long as the platform, because the kernel ties the
//! parent-death signal to the spawning thread, not to its process.

use crate::Error;
use crate::kernel;
use crate::launch::Launch;
use parking_lot::Mutex;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, pidfd_open,
    waitid, waitpid,
};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

#[derive(Debug)]
enum Life {
    Running,
    /// Reaped.
    Ended(ExitStatus),
}

/// A running (or dead) instance's process, the leader of its own group.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    life: Mutex<Life>,
    frozen: AtomicBool,
    over_memory: AtomicBool,
}

impl Process {
    /// Kills it for using more memory than it may.
    pub(crate) fn kill_over_memory(&self) {
        self.over_memory.store(true, Ordering::Release);
        self.kill();
    }

    pub(crate) fn was_over_memory(&self) -> bool {
        self.over_memory.load(Ordering::Acquire)
    }

    /// Stops the whole group. What it left undone goes on after `thaw`.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::Release);
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        if self.frozen.swap(false, Ordering::AcqRel) {
            self.signal(Signal::CONT);
        }
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Resident bytes; `None` when it is gone.
    pub(crate) fn rss_bytes(&self) -> Option<u64> {
        if let Life::Ended(_) = *self.life.lock() {
            return None;
        }
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }

    fn signal(&self, signal: Signal) {
        let life = self.life.lock();
        if let Life::Running = *life {
            // It can only have died meanwhile, which is no news to anyone.
            let _ = kill_process_group(self.pid, signal);
        }
    }

    fn ended(&self) -> Option<ExitStatus> {
        match *self.life.lock() {
            Life::Ended(status) => Some(status),
            Life::Running => None,
        }
    }

    /// The status of a process that has exited; collects it the first time, and
    /// takes the rest of its group along. `None` while it still runs.
    fn reap(&self) -> Option<ExitStatus> {
        let mut life = self.life.lock();
        if let Life::Ended(status) = *life {
            return Some(status);
        }
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if let Ok(None) = waitid(WaitId::Pid(self.pid), ended) {
            return None;
        }
        // The group exists until its leader is reaped.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let status = match waitpid(Some(self.pid), WaitOptions::NOHANG) {
            Ok(ended) => ExitStatus::from_raw(ended?.1.as_raw()),
            // Somebody else collected it; what it was is lost.
            Err(_) => ExitStatus::default(),
        };
        *life = Life::Ended(status);
        Some(status)
    }
}

impl Drop for Process {
    #[expect(
        clippy::disallowed_methods,
        reason = "a destructor cannot await, and waits for a dying process only"
    )]
    fn drop(&mut self) {
        self.kill();
        // A killed process is gone within a millisecond or so; a zombie is all
        // that can remain if it is not.
        for _ in 0..100 {
            if self.reap().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits for the end of a process without polling.
#[derive(Debug)]
pub(crate) struct Exit {
    process: Arc<Process>,
    pidfd: AsyncFd<OwnedFd>,
}

impl Exit {
    pub(crate) fn watch(process: Arc<Process>) -> io::Result<Exit> {
        let pidfd = kernel::watch(pidfd_open(process.pid, PidfdFlags::NONBLOCK)?)?;
        Ok(Exit { process, pidfd })
    }

    /// The process's end. Cancel-safe.
    pub(crate) async fn wait(&self) -> ExitStatus {
        loop {
            if let Some(status) = self.process.ended() {
                return status;
            }
            let ready = self.pidfd.readable().await;
            if let Some(status) = self.process.reap() {
                return status;
            }
            match ready {
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// The thread that spawns, and does what else may have to wait for the kernel: a process
/// that joins a cgroup holds up the making and removing of cgroups for an RCU grace period,
/// some 10 ms. It ends, and with it every child, once all clones of its handle are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    orders: mpsc::Sender<Work>,
}

impl Spawner {
    pub(crate) fn start() -> Result<Spawner, Error> {
        let (orders, mut inbox) = mpsc::channel::<Work>(64);
        let work = move || {
            while let Some(order) = inbox.blocking_recv() {
                order();
            }
        };
        std::thread::Builder::new()
            .name("local-lambda-spawn".to_owned())
            .spawn(work)
            .map_err(Error::Spawner)?;
        Ok(Spawner { orders })
    }

    /// Does this on the thread, behind what it was told before.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| io::Error::other("the spawning thread has ended");
        let order = Box::new(move || {
            // Nobody waiting any more: a process dies when it is dropped.
            let _ = reply.send(work());
        });
        self.orders.send(order).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?
    }

    #[cfg(test)]
    async fn spawn(&self, launch: Launch) -> io::Result<Process> {
        self.run(move || spawn(&launch)).await
    }
}

/// Starts a process that lives as long as this thread.
pub(crate) fn spawn(launch: &Launch) -> io::Result<Process> {
    Ok(Process {
        pid: kernel::start(launch)?,
        life: Mutex::new(Life::Running),
        frozen: AtomicBool::new(false),
        over_memory: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Launch {
        Launch::new("/bin/sh").args(["-c", "exec sleep 60"])
    }

    fn state(pid: u32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.trim().chars().next()
    }

    async fn until(what: impl Fn() -> bool) {
        for _ in 0..500 {
            if what() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("did not happen within 5 s");
    }

    #[tokio::test]
    async fn freezes_thaws_and_tells_of_the_end() {
        let spawner = Spawner::start().unwrap();
        let process = Arc::new(spawner.spawn(sleeper()).await.unwrap());
        let exit = Exit::watch(Arc::clone(&process)).unwrap();
        process.freeze();
        until(|| state(process.pid()) == Some('T')).await;
        process.thaw();
        until(|| state(process.pid()) == Some('S')).await;
        process.freeze();
        process.kill();
        assert_eq!(exit.wait().await.signal(), Some(9));
        assert_eq!(process.rss_bytes(), None);
    }

    #[tokio::test]
    async fn the_end_of_the_thread_is_the_end_of_its_children() {
        let spawner = Spawner::start().unwrap();
        let process = spawner.spawn(sleeper()).await.unwrap();
        process.freeze();
        let pid = process.pid();
        drop(spawner);
        until(|| matches!(state(pid), None | Some('Z'))).await;
    }

    /// What `script` prints, run by a shell.
    async fn printed(spawner: &Spawner, script: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let out = std::fs::File::create(&path).unwrap();
        let mut launch = Launch::new("sh")
            .args(["-c", script])
            .env([("GREETING", "good day")]);
        launch.output = Some((out.try_clone().unwrap(), out));
        let process = Arc::new(spawner.spawn(launch).await.unwrap());
        let exit = Exit::watch(Arc::clone(&process)).unwrap();
        assert!(exit.wait().await.success());
        std::fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn a_process_starts_with_what_it_is_told_and_nothing_else() {
        let spawner = Spawner::start().unwrap();
        let script = r#"echo "$GREETING"; ulimit -n; read -r line; echo "$?$line""#;
        assert_eq!(printed(&spawner, script).await, "good day\n1024\n1\n");
        // no signal is blocked; Rust ignores SIGPIPE, others do not
        let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
        let status = printed(&spawner, script).await;
        let masks: Vec<u64> = status
            .lines()
            .map(|line| u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap())
            .collect();
        let pipe = 1 << (Signal::PIPE.as_raw() - 1);
        assert_eq!((masks[0], masks[1] & pipe), (0, 0), "{status}");
    }

    /// Minor faults of this thread.
    fn faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields = stat.rsplit(')').next().unwrap();
        fields.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn what_this_process_writes_next_does_not_fault() {
        const PAGES: usize = 4096;
        let spawner = Spawner::start().unwrap();
        let mut memory = vec![0u8; PAGES * 4096];
        let mut write = |byte: u8| memory.iter_mut().step_by(4096).for_each(|b| *b = byte);
        write(1);
        let process = spawner.spawn(sleeper()).await.unwrap();
        let before = faults();
        write(2);
        let faulted = faults() - before;
        assert!(faulted < PAGES as u64 / 4, "{faulted} of {PAGES} pages");
        assert!(memory.iter().step_by(4096).all(|byte| *byte == 2));
        drop(process);
    }

    #[tokio::test]
    async fn a_dropped_process_is_dead_and_reaped() {
        let spawner = Spawner::start().unwrap();
        let process = spawner.spawn(sleeper()).await.unwrap();
        let pid = process.pid();
        drop(process);
        assert_eq!(state(pid), None);
        assert!(
            spawner
                .spawn(Launch::new("/no/such/program"))
                .await
                .is_err()
        );
    }
}
