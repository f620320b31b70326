//! Operating-system processes of instances: start, freeze, thaw, kill, reap.
//!
//! Invariants: a pid is signalled only while its process is unreaped, so never
//! a stranger's; a `Process` that is dropped is dead. All are spawned by one
//! thread that lives as long as the platform, because the kernel ties the
//! parent-death signal to the spawning thread, not to its process.

use crate::Error;
use crate::kernel;
use parking_lot::Mutex;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

#[derive(Debug)]
enum Life {
    Running(Child),
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
        if let Life::Running(_) = *life {
            // It can only have died meanwhile, which is no news to anyone.
            let _ = kill_process_group(self.pid, signal);
        }
    }

    fn ended(&self) -> Option<ExitStatus> {
        match *self.life.lock() {
            Life::Ended(status) => Some(status),
            Life::Running(_) => None,
        }
    }

    /// The status of a process that has exited; collects it the first time, and
    /// takes the rest of its group along. `None` while it still runs.
    fn reap(&self) -> Option<ExitStatus> {
        let mut life = self.life.lock();
        let child = match &mut *life {
            Life::Ended(status) => return Some(*status),
            Life::Running(child) => child,
        };
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if let Ok(None) = waitid(WaitId::Pid(self.pid), ended) {
            return None;
        }
        // The group exists until its leader is reaped.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let status = match child.try_wait() {
            Ok(status) => status?,
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

struct Order {
    command: Command,
    cgroup_procs: Option<File>,
    reply: oneshot::Sender<io::Result<Process>>,
}

/// The thread that spawns. It ends, and with it every child, once all clones of
/// its handle are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    orders: mpsc::Sender<Order>,
}

impl Spawner {
    pub(crate) fn start() -> Result<Spawner, Error> {
        let (orders, mut inbox) = mpsc::channel::<Order>(64);
        let work = move || {
            while let Some(order) = inbox.blocking_recv() {
                // Nobody waiting any more: the process dies when it is dropped.
                let _ = order.reply.send(spawn(order.command, order.cgroup_procs));
            }
        };
        std::thread::Builder::new()
            .name("local-lambda-spawn".to_owned())
            .spawn(work)
            .map_err(Error::Spawner)?;
        Ok(Spawner { orders })
    }

    pub(crate) async fn spawn(
        &self,
        command: Command,
        cgroup_procs: Option<File>,
    ) -> io::Result<Process> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| io::Error::other("the spawning thread has ended");
        self.orders
            .send(Order {
                command,
                cgroup_procs,
                reply,
            })
            .await
            .map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?
    }
}

fn spawn(mut command: Command, cgroup_procs: Option<File>) -> io::Result<Process> {
    command.stdin(Stdio::null()).process_group(0);
    kernel::prepare_child(&mut command, cgroup_procs);
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let life = Mutex::new(Life::Running(child));
    Ok(Process {
        pid,
        life,
        frozen: AtomicBool::new(false),
        over_memory: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec sleep 60"]);
        command
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
        let process = Arc::new(spawner.spawn(sleeper(), None).await.unwrap());
        let exit = Exit::watch(Arc::clone(&process)).unwrap();
        process.freeze();
        until(|| state(process.pid()) == Some('T')).await;
        process.thaw();
        until(|| state(process.pid()) == Some('S')).await;
        process.freeze();
        process.kill();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(exit.wait().await.signal(), Some(9));
        assert_eq!(process.rss_bytes(), None);
    }

    #[tokio::test]
    async fn the_end_of_the_thread_is_the_end_of_its_children() {
        let spawner = Spawner::start().unwrap();
        let process = spawner.spawn(sleeper(), None).await.unwrap();
        process.freeze();
        let pid = process.pid();
        drop(spawner);
        until(|| matches!(state(pid), None | Some('Z'))).await;
    }

    #[tokio::test]
    async fn a_dropped_process_is_dead_and_reaped() {
        let spawner = Spawner::start().unwrap();
        let process = spawner.spawn(sleeper(), None).await.unwrap();
        let pid = process.pid();
        drop(process);
        assert_eq!(state(pid), None);
        assert!(
            spawner
                .spawn(Command::new("/no/such/program"), None)
                .await
                .is_err()
        );
    }
}
