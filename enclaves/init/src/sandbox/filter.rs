//! The system calls that an application may make, and their purpose. Any other ends it.
//!
//! The list was made by following the enclaves through start, requests and failures with strace,
//! linked with musl as they are in an image: key generation, import, signing, custody, and
//! everything that can go wrong with each. What it has beyond that is what musl, the standard
//! library and the asynchronous runtime fall back to, on one architecture or the other.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::Role;

/// Restricts this thread, and every program that it starts or executes, to the lists below.
///
/// # Errors
/// [`FilterError`].
pub fn install(role: &Role) -> Result<(), FilterError> {
    let arch = TargetArch::try_from(ARCH).map_err(FilterError::Compile)?;
    apply_filter(&program(arch, role)?).map_err(FilterError::Install)
}

fn program(arch: TargetArch, role: &Role) -> Result<BpfProgram, FilterError> {
    let more = match role {
        Role::Application => &[],
        Role::ApplicationWithVolume => VOLUME,
        Role::Bridge { .. } => BRIDGE,
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ANY_ARGUMENTS
        .iter()
        .chain(more)
        .map(|call| (*call, Vec::new()))
        .collect();
    for &(call, argument, condition) in CERTAIN_ARGUMENTS {
        rules
            .entry(call)
            .or_default()
            .push(rule(argument, condition).map_err(FilterError::Compile)?);
    }
    SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        arch,
    )
    .and_then(BpfProgram::try_from)
    .map_err(FilterError::Compile)
}

fn rule(argument: u8, condition: Condition) -> Result<SeccompRule, seccompiler::BackendError> {
    let (operator, value) = match condition {
        Condition::Is(value) => (SeccompCmpOp::Eq, value),
        Condition::Has(bits) => (SeccompCmpOp::MaskedEq(bits.into()), bits),
        Condition::Lacks(bits) => (SeccompCmpOp::MaskedEq(bits.into()), 0),
    };
    // All of them are C's int or unsigned int, whose upper half the kernel does not look at either.
    SeccompRule::new(vec![SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        operator,
        value.into(),
    )?])
}

/// A filter that was not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The list cannot be turned into a program.
    #[error("the list of system calls cannot be compiled")]
    Compile(#[source] seccompiler::BackendError),
    /// The kernel does not take it.
    #[error("the kernel does not take the filter")]
    Install(#[source] seccompiler::Error),
}

/// The condition on an argument.
#[derive(Clone, Copy, Debug)]
enum Condition {
    Is(u32),
    Has(u32),
    Lacks(u32),
}

const ANY_ARGUMENTS: &[c_long] = &[
    // Memory
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads: musl's way to end one, wait for one and number them; the standard library counts
    // processors
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    // Signals: handlers and masks of the runtime (SIGPIPE, stack overflow)
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Time, where the vDSO does not answer
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    // Randomness
    libc::SYS_getrandom,
    // Files: the settings, /dev/nsm, what the kernel says about itself. Permissions decide which.
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting for many things at once
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    // Sockets, of the families below
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Becoming the application; see `become_application` for why that is harmless
    libc::SYS_execve,
    // The older calls for the same, which musl prefers where they exist
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
];

/// Also allowed to an application with a volume: calls for files that it keeps. Nothing else is
/// writable.
const VOLUME: &[c_long] = &[
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_mkdirat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// And the volume's bridge: its limits.
const BRIDGE: &[c_long] = &[libc::SYS_prlimit64];

/// System call, number of the argument, and what it must be; one of several lines for a call has to
/// hold.
const CERTAIN_ARGUMENTS: &[(c_long, u8, Condition)] = &[
    // Threads, never processes
    (libc::SYS_clone, 0, Condition::Has(bits(libc::CLONE_THREAD))),
    // Memory is never code
    (libc::SYS_mmap, 2, Condition::Lacks(bits(libc::PROT_EXEC))),
    (
        libc::SYS_mprotect,
        2,
        Condition::Lacks(bits(libc::PROT_EXEC)),
    ),
    // The names of threads
    (libc::SYS_prctl, 0, Condition::Is(bits(libc::PR_SET_NAME))),
    // Requests to the NSM, and sockets that do not block
    (libc::SYS_ioctl, 1, Condition::Is(NSM_REQUEST)),
    (libc::SYS_ioctl, 1, Condition::Is(FIONBIO)),
    // Pods come over vsock; the runtime wakes itself over a pair
    (libc::SYS_socket, 0, Condition::Is(bits(libc::AF_VSOCK))),
    (libc::SYS_socket, 0, Condition::Is(bits(libc::AF_INET))),
    (libc::SYS_socket, 0, Condition::Is(bits(libc::AF_UNIX))),
    (libc::SYS_socketpair, 0, Condition::Is(bits(libc::AF_UNIX))),
    // A crash of its own: raise(3) of one C library or the other
    (libc::SYS_tkill, 1, Condition::Is(bits(libc::SIGABRT))),
    (libc::SYS_tgkill, 2, Condition::Is(bits(libc::SIGABRT))),
];

/// A flag of C's as what a register holds.
const fn bits(value: libc::c_int) -> u32 {
    value.cast_unsigned()
}

/// _IOWR(0x0A, 0, struct nsm_raw), <linux/nsm.h>
const NSM_REQUEST: u32 = 0xc020_0a00;
/// <asm-generic/ioctls.h>
const FIONBIO: u32 = 0x5421;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_compiles_for_both_architectures() {
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            for role in [
                Role::Application,
                Role::ApplicationWithVolume,
                Role::Bridge { cid: 3, port: 1 },
            ] {
                assert!(program(arch, &role).unwrap().len() > ANY_ARGUMENTS.len());
            }
        }
    }

    #[test]
    fn no_call_stands_in_both_lists() {
        for (call, ..) in CERTAIN_ARGUMENTS {
            assert!(
                ![ANY_ARGUMENTS, VOLUME, BRIDGE].concat().contains(call),
                "{call} would pass whatever its arguments"
            );
        }
    }
}
