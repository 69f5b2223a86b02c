/* SPDX-License-Identifier: MIT */
/*
 * The filter of system calls is a list of what is allowed, in classic BPF, since a list
 * of what is forbidden grows old with each kernel. A call that is not listed answers
 * ENOSYS, on which a newer C library falls back to an older call; one that is listed
 * with other arguments answers EPERM. What a daemon never does and an attacker does
 * first (run a program, trace, mount, load code into the kernel) kills the process: then
 * the volume's bytes are in command, and a killed daemon loses nothing.
 *
 * It stays off where a sanitizer is built in, which opens, forks and traces by itself; a
 * build that counts coverage writes files at its end and wants -DCONFINE_FILTER=0.
 */
#include "fusefs/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kvcore/base/base.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif
#ifndef CONFINE_FILTER
#define CONFINE_FILTER !SANITIZED
#endif

#if defined(__x86_64__) && defined(__LP64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__LP64__) && defined(__AARCH64EL__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#define ARCH 0
#endif

/* ---- rights --------------------------------------------------------------- */

int confine_capabilities(uint64_t keep)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	/* The kernel's list may be longer than that of the headers; it ends with EINVAL. */
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) && errno != EPERM)
			return -errno;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) && errno != EINVAL)
		return -errno;
	if (syscall(SYS_capget, &head, data))
		return -errno;
	for (unsigned i = 0; i < 2; i++) {
		data[i].permitted &= (uint32_t)(keep >> (32 * i));
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &head, data) ? -errno : 0;
}

int confine_privileges(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
}

/* ---- system calls ----------------------------------------------------------- */

#if CONFINE_FILTER && ARCH

/* Those of each request stand first. */
static const int allowed[] = {
	SYS_read,
	SYS_writev,
	SYS_futex,
	SYS_pwrite64,
	SYS_pread64,
	SYS_clock_gettime,
	SYS_fdatasync,
	SYS_write,
	SYS_madvise,
	SYS_munmap,
	SYS_ppoll,
	SYS_brk,
	SYS_clock_getres,
	SYS_clock_nanosleep,
	SYS_close,
	SYS_connect,
	SYS_dup,
	SYS_dup3,
	SYS_exit,
	SYS_exit_group,
	SYS_fadvise64,
	SYS_fallocate,
	SYS_flock,
	SYS_fstat,
	SYS_fstatfs,
	SYS_fsync,
	SYS_ftruncate,
	SYS_getcpu,
	SYS_getegid,
	SYS_geteuid,
	SYS_getgid,
	SYS_getpid,
	SYS_getppid,
	SYS_getrandom,
	SYS_getrusage,
	SYS_gettid,
	SYS_gettimeofday,
	SYS_getuid,
	SYS_lseek,
	SYS_membarrier,
	SYS_mremap,
	SYS_nanosleep,
	SYS_newfstatat,
	SYS_preadv,
	SYS_pwritev,
	SYS_readv,
	SYS_recvfrom,
	SYS_recvmsg,
	SYS_restart_syscall,
	SYS_rseq,
	SYS_rt_sigaction,
	SYS_rt_sigpending,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_rt_sigtimedwait,
	SYS_sched_getaffinity,
	SYS_sched_yield,
	SYS_sendmsg,
	SYS_sendto,
	SYS_set_robust_list,
	SYS_set_tid_address,
	SYS_setsid,
	SYS_sigaltstack,
	SYS_statx,
	SYS_sync_file_range,
	SYS_sysinfo,
	SYS_times,
	SYS_uname,
	SYS_wait4,
#ifdef __x86_64__ /* which has calls that aarch64 never had */
	SYS_dup2,
	SYS_lstat,
	SYS_poll,
	SYS_stat,
	SYS_time,
	SYS_getrlimit,
#endif
};

static const int deadly[] = {
	SYS_execve,
	SYS_execveat,
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_chroot,
	SYS_open_tree,
	SYS_move_mount,
	SYS_fsopen,
	SYS_fsmount,
	SYS_setns,
	SYS_unshare,
	SYS_bpf,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_kexec_load,
	SYS_keyctl,
	SYS_add_key,
	SYS_request_key,
	SYS_perf_event_open,
	SYS_userfaultfd,
	SYS_io_uring_setup,
	SYS_reboot,
	SYS_swapon,
	SYS_open_by_handle_at,
};

/* Allowed if these bits of an argument have this value. Several of a call: one is enough. */
struct rule {
	int call;
	unsigned argument;
	uint32_t mask, value;
};

#define O_WRITES (O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))
#define CLONE_NEW_ALL                                                                              \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET)
#define ALL_BITS UINT32_MAX

/* Kept together by call. */
static const struct rule rules[] = {
	/* Of other processes to know their groups; of the C library. */
	{SYS_openat, 2, O_WRITES, O_RDONLY},
#ifdef __x86_64__
	{SYS_open, 1, O_WRITES, O_RDONLY},
#endif
	/* Memory that was written never becomes code. */
	{SYS_mmap, 2, PROT_EXEC, 0},
	{SYS_mmap, 2, PROT_WRITE, 0},
	{SYS_mprotect, 2, PROT_EXEC, 0},
	/* Threads, not processes. */
	{SYS_clone, 0, CLONE_THREAD | CLONE_NEW_ALL, CLONE_THREAD},
	/* Of the volume's device; of a standard stream. */
	{SYS_ioctl, 1, ALL_BITS, (uint32_t)BLKDISCARD},
	{SYS_ioctl, 1, ALL_BITS, (uint32_t)BLKGETSIZE64},
	{SYS_ioctl, 1, ALL_BITS, (uint32_t)TCGETS},
	{SYS_fcntl, 1, ALL_BITS, F_GETFD},
	{SYS_fcntl, 1, ALL_BITS, F_SETFD},
	{SYS_fcntl, 1, ALL_BITS, F_GETFL},
	{SYS_fcntl, 1, ALL_BITS, F_SETFL},
	{SYS_fcntl, 1, ALL_BITS, F_DUPFD_CLOEXEC},
	{SYS_prctl, 0, ALL_BITS, PR_SET_NAME},
	{SYS_prlimit64, 0, ALL_BITS, 0},
};

/* syslog(3)'s, the only kind: AF_UNIX and SOCK_DGRAM. */
static const struct rule syslog_rules[] = {
	{SYS_socket, 0, ALL_BITS, AF_UNIX},
	{SYS_socket, 1, 0xf, SOCK_DGRAM},
};

#define PROGRAM_MAX 512

struct program {
	struct sock_filter code[PROGRAM_MAX];
	unsigned short len;
};

static void emit(struct program *p, struct sock_filter one)
{
	KV_ASSERT(p->len < PROGRAM_MAX);
	p->code[p->len++] = one;
}

static void emit_load(struct program *p, size_t off)
{
	emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)off));
}

static void emit_return(struct program *p, uint32_t what)
{
	emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what));
}

/* The next @skip instructions only if the accumulator is @value. */
static void emit_unless_skip(struct program *p, uint32_t value, uint8_t skip)
{
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip));
}

static void emit_calls(struct program *p, const int *calls, size_t count, uint32_t what)
{
	for (size_t i = 0; i < count; i++) {
		emit_unless_skip(p, (uint32_t)calls[i], 1);
		emit_return(p, what);
	}
}

/* The lower half is all that the kernel looks at in an int. x86_64 and aarch64 have it first. */
static void emit_argument(struct program *p, const struct rule *r)
{
	emit_load(p, offsetof(struct seccomp_data, args) + 8 * r->argument);
	emit(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, r->mask));
}

/* Rules of one call: the first that fits allows it, else it is EPERM. */
static void emit_any(struct program *p, const struct rule *r, size_t count)
{
	emit_unless_skip(p, (uint32_t)r->call, (uint8_t)(4 * count + 1));
	for (size_t i = 0; i < count; i++) {
		emit_argument(p, &r[i]);
		emit_unless_skip(p, r[i].value, 1);
		emit_return(p, SECCOMP_RET_ALLOW);
	}
	emit_return(p, SECCOMP_RET_ERRNO | EPERM);
}

/* All of them must fit. */
static void emit_all(struct program *p, const struct rule *r, size_t count)
{
	emit_unless_skip(p, (uint32_t)r->call, (uint8_t)(4 * count + 1));
	for (size_t i = 0; i < count; i++) {
		emit_argument(p, &r[i]);
		emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r[i].value, 1, 0));
		emit_return(p, SECCOMP_RET_ERRNO | EPERM);
	}
	emit_return(p, SECCOMP_RET_ALLOW);
}

static void build(struct program *p)
{
	const struct rule to_itself[] = {
		{SYS_kill, 0, ALL_BITS, (uint32_t)getpid()},
		{SYS_tgkill, 0, ALL_BITS, (uint32_t)getpid()},
	};
	size_t count;

	p->len = 0;
	emit_load(p, offsetof(struct seccomp_data, arch));
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0));
	emit_return(p, SECCOMP_RET_KILL_PROCESS);
	emit_load(p, offsetof(struct seccomp_data, nr));
	emit_calls(p, allowed, KV_ARRAY_COUNT(allowed), SECCOMP_RET_ALLOW);
	for (size_t i = 0; i < KV_ARRAY_COUNT(rules); i += count) {
		for (count = 1;
		     i + count < KV_ARRAY_COUNT(rules) && rules[i + count].call == rules[i].call;
		     count++)
			;
		emit_any(p, &rules[i], count);
	}
	emit_any(p, &to_itself[0], 1);
	emit_any(p, &to_itself[1], 1);
	emit_all(p, syslog_rules, KV_ARRAY_COUNT(syslog_rules));
	emit_calls(p, deadly, KV_ARRAY_COUNT(deadly), SECCOMP_RET_KILL_PROCESS);
	emit_return(p, SECCOMP_RET_ERRNO | ENOSYS);
}

int confine_calls(struct log *log)
{
	struct program p;
	struct sock_fprog prog;

	build(&p);
	prog = (struct sock_fprog){.len = p.len, .filter = p.code};
	if (!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog))
		return 0;
	if (errno != ENOSYS && errno != EINVAL)
		return -errno;
	log_line(log, KV_LOG_WARN, "system calls are not confined: the kernel has no seccomp");
	return 1;
}

#else

int confine_calls(struct log *log)
{
	log_line(log, KV_LOG_INFO, "system calls are not confined in this build");
	return 1;
}

#endif

int confine_daemon(struct log *log)
{
	int err = confine_capabilities(0);

	if (!err)
		err = confine_privileges();
	/* A sanitizer looks into its process from another one. */
	if (!err && !SANITIZED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		err = -errno;
	if (!err)
		err = confine_calls(log);
	if (err >= 0)
		return 0;
	log_error(log, "cannot give up rights: %s; noconfine keeps them", strerror(-err));
	return err;
}
