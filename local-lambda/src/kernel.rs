//! The only `unsafe` of this crate: the two calls whose conditions the compiler
//! cannot check. The steps between fork and exec run in a forked copy of a
//! threaded process, so they may be nothing but plain system calls: no
//! allocation, no locks, no logging. And tokio wants the promise that a
//! descriptor stays the same while it is watched.
#![allow(unsafe_code)]

use rustix::process::{
    Resource, Rlimit, Signal, getpid, getppid, set_parent_process_death_signal, setrlimit,
};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lambda's limit of open files.
const OPEN_FILES: u64 = 1024;

/// Makes the child die with the calling thread, however that ends (SIGKILL
/// included, and even if the child is stopped then), start inside the cgroup of
/// `cgroup_procs`, and live with Lambda's limit of open files.
pub(crate) fn prepare_child(command: &mut Command, cgroup_procs: Option<File>) {
    let parent = getpid();
    let steps = move || -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the line above: then nobody is left
        // to send the signal.
        if getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(
                rustix::io::Errno::SRCH.raw_os_error(),
            ));
        }
        if let Some(procs) = &cgroup_procs {
            rustix::io::write(procs, b"0")?;
        }
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(OPEN_FILES),
                maximum: Some(OPEN_FILES),
            },
        )?;
        Ok(())
    };
    // SAFETY: `steps` makes five system calls through rustix, which uses no
    // libc state, and builds errors from raw numbers; it allocates nothing.
    unsafe {
        command.pre_exec(steps);
    }
}

/// Watches a descriptor for becoming readable, on the current tokio runtime.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is a valid descriptor, always the same one, and open
    // until it is dropped, which the `AsyncFd` that owns it does last.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(|e| e.into_parts().1)
}
