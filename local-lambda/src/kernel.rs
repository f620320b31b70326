//! The only `unsafe` of this crate: calls whose conditions the compiler cannot
//! check. A new process borrows the memory of this one until it runs its
//! program (as `vfork` and `posix_spawn` do): a copy, even one that is never
//! written, would make this process fault on every page it writes next, and a
//! proxy with a local pool has many. So the steps in between may be nothing but
//! plain system calls: no allocation, no locks, no logging. And tokio wants the
//! promise that a descriptor stays the same while it is watched.
#![allow(unsafe_code)]

use crate::launch::{Launch, Prepared};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getppid, set_parent_process_death_signal, setpgid,
    setrlimit,
};
use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lambda's limit of open files.
const OPEN_FILES: u64 = 1024;
/// Stack of the steps, in units of 16 bytes: a page is far more than they use,
/// and there is no guard behind it.
const STACK_UNITS: usize = 64 * 1024 / 16;

/// What the new process needs until it runs its program, and what it says if it
/// cannot.
struct Birth<'a> {
    parent: Pid,
    stdin: OwnedFd,
    /// Standard output and error.
    output: Option<(OwnedFd, OwnedFd)>,
    cgroup_procs: Option<OwnedFd>,
    programs: &'a [CString],
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
    error: c_int,
}

/// Starts a process, the leader of its own group. It dies with the calling
/// thread, however that ends (SIGKILL included, and even if it is stopped then),
/// starts inside the cgroup, with nothing on its standard input, and lives with
/// Lambda's limit of open files. Somebody has to reap it.
pub(crate) fn start(launch: &Launch) -> io::Result<Pid> {
    let Prepared {
        programs,
        args,
        env,
    } = launch.prepare()?;
    // none of the first three, which are replaced one after the other
    let above = |file: &File| rustix::io::fcntl_dupfd_cloexec(file, 3);
    let output = launch.output.as_ref();
    let output = output.map(|(out, err)| Ok::<_, io::Error>((above(out)?, above(err)?)));
    let mut birth = Birth {
        parent: getpid(),
        stdin: above(&File::open("/dev/null")?)?,
        output: output.transpose()?,
        cgroup_procs: launch.cgroup_procs.as_ref().map(above).transpose()?,
        programs: &programs,
        args: pointers(&args),
        env: pointers(&env),
        error: 0,
    };
    let mut stack = vec![0u128; STACK_UNITS];
    // SAFETY: `born` makes plain system calls only and ends in another program
    // or in `_exit`. It runs on a stack of its own, of which the end is passed;
    // CLONE_VFORK keeps this thread, and so all it borrows, until then. While
    // signals are blocked no handler runs in the shared memory.
    let pid = unsafe {
        let blocked = block_signals();
        let top = stack.as_mut_ptr().add(STACK_UNITS).cast::<c_void>();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let pid = libc::clone(born, top, flags, (&raw mut birth).cast());
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const blocked, ptr::null_mut());
        match pid {
            1.. => Pid::from_raw(pid).ok_or(error)?,
            _ => return Err(error),
        }
    };
    // SAFETY: as above, it may have been written behind the compiler's back.
    let error = unsafe { ptr::read_volatile(&raw const birth.error) };
    if error == 0 {
        return Ok(pid);
    }
    // it has ended already
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    Err(io::Error::from_raw_os_error(error))
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let all = strings.iter().map(|string| string.as_ptr());
    all.chain([ptr::null()]).collect()
}

/// Blocks all signals for this thread; those that were blocked before.
unsafe fn block_signals() -> libc::sigset_t {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: the first two calls initialise what they point to.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigemptyset(before.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    }
}

/// The new process until it runs its program.
extern "C" fn born(birth: *mut c_void) -> c_int {
    // SAFETY: `start` passes a `Birth`, and waits.
    let birth = unsafe { &mut *birth.cast::<Birth<'_>>() };
    let error = match settle(birth) {
        Ok(()) => run(birth),
        Err(error) => error.raw_os_error(),
    };
    // SAFETY: a place of `birth`, which outlives this.
    unsafe { ptr::write_volatile(&raw mut birth.error, error) };
    // SAFETY: ends this process without touching what it shares.
    unsafe { libc::_exit(127) }
}

fn settle(birth: &Birth<'_>) -> rustix::io::Result<()> {
    setpgid(None, None)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above: then nobody is left to
    // send the signal.
    if getppid() != Some(birth.parent) {
        return Err(rustix::io::Errno::SRCH);
    }
    redirect(&birth.stdin, 0)?;
    if let Some((out, err)) = &birth.output {
        redirect(out, 1)?;
        redirect(err, 2)?;
    }
    if let Some(procs) = &birth.cgroup_procs {
        rustix::io::write(procs, b"0")?;
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(OPEN_FILES),
            maximum: Some(OPEN_FILES),
        },
    )
}

fn redirect(from: &OwnedFd, to: RawFd) -> rustix::io::Result<()> {
    // SAFETY: two numbers; the descriptor table is this process's own.
    match unsafe { libc::dup2(from.as_raw_fd(), to) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// Runs the program; why it could not.
fn run(birth: &Birth<'_>) -> c_int {
    // SAFETY: the table of handlers is this process's own, the signal set is
    // initialised, and both arrays end with a null pointer.
    unsafe {
        // what is ignored stays so; but Rust ignores SIGPIPE, and a handler must
        // not run before the program does, when nothing is blocked any more
        for signal in 1..=libc::SIGRTMAX() {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            libc::sigaction(signal, ptr::null(), &raw mut action);
            if action.sa_sigaction != libc::SIG_IGN || signal == libc::SIGPIPE {
                action.sa_sigaction = libc::SIG_DFL;
                action.sa_flags = 0;
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
        }
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        let mut told = rustix::io::Errno::NOENT;
        for program in birth.programs {
            libc::execve(program.as_ptr(), birth.args.as_ptr(), birth.env.as_ptr());
            match last_error() {
                rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => {}
                // another folder may have one that may be run
                rustix::io::Errno::ACCESS => told = rustix::io::Errno::ACCESS,
                error => return error.raw_os_error(),
            }
        }
        told.raw_os_error()
    }
}

fn last_error() -> rustix::io::Errno {
    // reads a number of this thread's, which is lent
    let number = io::Error::last_os_error().raw_os_error();
    rustix::io::Errno::from_raw_os_error(number.unwrap_or(libc::EINVAL))
}

/// Watches a descriptor for becoming readable, on the current tokio runtime.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is a valid descriptor, always the same one, and open
    // until it is dropped, which the `AsyncFd` that owns it does last.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(|e| e.into_parts().1)
}
