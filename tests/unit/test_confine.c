/* SPDX-License-Identifier: MIT */
/* confine.c: what a confined process can still do, and what becomes of one that does more. */
#include "fusefs/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/test_suite.h"

#define UNCONFINED 99

/* The filter's one message goes here; the daemon's log needs libfuse. */
void log_line(struct log *log, enum kv_log_level level, const char *fmt, ...)
{
	(void)log;
	(void)level;
	(void)fmt;
}

/* The status of a child that is confined and then does @act: what that returns, or -signal. */
static int confined(int (*act)(void))
{
	int status, err;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		err = confine_capabilities(0);
		if (!err)
			err = confine_privileges();
		if (!err)
			err = confine_calls(NULL);
		_exit(err == 1 ? UNCONFINED : err ? 98 : act());
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int nothing(void)
{
	return 0;
}

static bool filter_is_there(void)
{
	return confined(nothing) != UNCONFINED;
}

/* ---- deadly ---- */

static int run_a_program(void)
{
	char name[] = "true", *argv[] = {name, NULL};

	execve("/bin/true", argv, environ);
	return 1;
}

static int trace(void)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	return 1;
}

static int mount_something(void)
{
	(void)!mount("none", "/tmp", "tmpfs", 0, NULL);
	return 1;
}

static int unmount_something(void)
{
	(void)!umount2("/nowhere", MNT_DETACH);
	return 1;
}

static int enter_a_namespace(void)
{
	(void)!unshare(CLONE_NEWUSER);
	return 1;
}

static int use_a_key(void)
{
	(void)!syscall(SYS_keyctl, 0, 0, 0, 0, 0);
	return 1;
}

static int load_a_program(void)
{
	(void)!syscall(SYS_bpf, 0, NULL, 0);
	return 1;
}

static int load_a_module(void)
{
	(void)!syscall(SYS_finit_module, -1, "", 0);
	return 1;
}

START_TEST(test_what_only_an_attacker_does_kills_the_process)
{
	int (*const acts[])(void) = {
		run_a_program,	   trace,     mount_something, unmount_something,
		enter_a_namespace, use_a_key, load_a_program,  load_a_module};

	if (!filter_is_there())
		return;
	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
		ck_assert_msg(confined(acts[i]) == -SIGSYS, "act %zu: %d", i, confined(acts[i]));
}
END_TEST

/* ---- refused ---- */

static int open_for_writing(void)
{
	return open("/dev/null", O_RDWR) < 0 ? errno : 0;
}

static int make_a_file(void)
{
	return open("/tmp/kvfs-test-confine", O_RDONLY | O_CREAT, 0600) < 0 ? errno : 0;
}

static int truncate_a_file(void)
{
	return open("/dev/null", O_RDONLY | O_TRUNC) < 0 ? errno : 0;
}

static int speak_tcp(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0;
}

static int stream_to_a_service(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0) < 0 ? errno : 0;
}

static int fork_a_process(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid < 0 ? errno : 0;
}

static int write_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	return p == MAP_FAILED ? errno : 0;
}

static int turn_data_into_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mprotect(p, 4096, PROT_READ | PROT_EXEC) ? errno : 0;
}

static int signal_the_parent(void)
{
	return kill(getppid(), 0) ? errno : 0;
}

static int type_into_a_terminal(void)
{
	return ioctl(0, 0x5412 /* TIOCSTI */, "x") ? errno : 0;
}

static int become_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) ? errno : 0;
}

START_TEST(test_calls_with_other_arguments_than_a_daemons_are_refused)
{
	int (*const acts[])(void) = {
		open_for_writing,    make_a_file,	   truncate_a_file, speak_tcp,
		stream_to_a_service, fork_a_process,	   write_code,	    turn_data_into_code,
		signal_the_parent,   type_into_a_terminal, become_dumpable};

	if (!filter_is_there())
		return;
	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
		ck_assert_msg(confined(acts[i]) == EPERM, "act %zu: %d", i, confined(acts[i]));
}
END_TEST

static int remove_a_file(void)
{
	return unlink("/tmp/kvfs-test-confine-none") ? errno : 0;
}

static int change_a_mode(void)
{
	return chmod("/tmp/kvfs-test-confine-none", 0777) ? errno : 0;
}

static int rename_a_file(void)
{
	return rename("/tmp/kvfs-test-confine-none", "/tmp/kvfs-test-confine") ? errno : 0;
}

static int link_a_file(void)
{
	return symlink("/", "/tmp/kvfs-test-confine") ? errno : 0;
}

static int become_another(void)
{
	return setuid(65534) ? errno : 0;
}

static int call_nothing(void)
{
	return syscall(100000) < 0 ? errno : 0;
}

START_TEST(test_calls_that_are_not_listed_do_not_exist)
{
	int (*const acts[])(void) = {remove_a_file, change_a_mode,  rename_a_file,
				     link_a_file,   become_another, call_nothing};

	if (!filter_is_there())
		return;
	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
		ck_assert_msg(confined(acts[i]) == ENOSYS, "act %zu: %d", i, confined(acts[i]));
}
END_TEST

/* ---- allowed ---- */

static void *add_one(void *arg)
{
	*(int *)arg += 1;
	return NULL;
}

static int make_threads(void)
{
	pthread_t t[3];
	int n[3] = {0};

	for (int i = 0; i < 3; i++)
		if (pthread_create(&t[i], NULL, add_one, &n[i]))
			return 1;
	for (int i = 0; i < 3; i++)
		(void)pthread_join(t[i], NULL);
	return n[0] + n[1] + n[2] == 3 ? 0 : 2;
}

static int use_memory(void)
{
	for (size_t size = 1000; size < 1U << 27; size *= 3) {
		char *p = malloc(size);

		if (!p)
			return 1;
		p[size - 1] = 1;
		free(p);
	}
	return 0;
}

static int read_proc(void)
{
	char line[64];
	FILE *f = fopen("/proc/self/status", "re");

	return f && fgets(line, sizeof(line), f) ? 0 : 1;
}

static int speak_to_syslog(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = "/nowhere"};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return 1;
	return connect(fd, (struct sockaddr *)&to, sizeof(to)) && errno == ENOENT ? 0 : 2;
}

static int raise_a_signal(void)
{
	sigset_t set, before;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	if (kill(getpid(), SIGUSR2))
		return 1;
	return sigwait(&set, &sig) == 0 && sig == SIGUSR2 ? 0 : 2;
}

START_TEST(test_what_a_daemon_does_works)
{
	int (*const acts[])(void) = {nothing,	make_threads,	 use_memory,
				     read_proc, speak_to_syslog, raise_a_signal};

	if (!filter_is_there())
		return;
	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
		ck_assert_msg(confined(acts[i]) == 0, "act %zu: %d", i, confined(acts[i]));
}
END_TEST

/* ---- rights ---- */

static int no_rights_are_left(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (confine_capabilities(0) || confine_privileges() || syscall(SYS_capget, &head, data))
		return 1;
	for (unsigned i = 0; i < 2; i++)
		if (data[i].permitted | data[i].effective | data[i].inheritable)
			return 2;
	for (unsigned long cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (geteuid() == 0 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) > 0)
			return 3;
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 4;
}

static int one_right_is_left(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct before[2], data[2];

	if (syscall(SYS_capget, &head, before) ||
	    confine_capabilities(CONFINE_CAP(CAP_SYS_ADMIN)) || syscall(SYS_capget, &head, data))
		return 1;
	if (data[0].permitted != (before[0].permitted & 1U << CAP_SYS_ADMIN) || data[1].permitted)
		return 2;
	return data[0].effective == data[0].permitted ? 0 : 3;
}

START_TEST(test_capabilities_are_dropped_from_every_set)
{
	int (*const acts[])(void) = {no_rights_are_left, one_right_is_left};

	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
		int status;
		pid_t pid = fork();

		ck_assert_int_ge(pid, 0);
		if (pid == 0)
			_exit(acts[i]());
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(WEXITSTATUS(status), 0);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_what_only_an_attacker_does_kills_the_process,
		test_calls_with_other_arguments_than_a_daemons_are_refused,
		test_calls_that_are_not_listed_do_not_exist,
		test_what_a_daemon_does_works,
		test_capabilities_are_dropped_from_every_set,
	};

	return test_suite_run("confine", tests, sizeof(tests) / sizeof(tests[0]), 60);
}
