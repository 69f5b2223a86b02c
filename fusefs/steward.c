/* SPDX-License-Identifier: MIT */
/*
 * The steward is forked before the volume is opened, when the process has one thread and
 * nothing of the volume in memory. A message is one record of a SOCK_SEQPACKET socket, so it is
 * whole or not there; the descriptor of the connection comes with the answer to the first. Once
 * it has mounted it keeps three capabilities: to unmount, to reach a directory of another user,
 * and to see whose files are open. A user's steward has none, but may still run fusermount3,
 * which the daemon may not.
 *
 * It ignores signals: the daemon hears them and says what is to be done.
 */
#include "fusefs/steward.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fusefs/confine.h"
#include "fusefs/procs.h"
#include "fusefs/session.h"
#include "kvcore/base/base.h"

#define NAME   "kvfs-steward" /* as ps -e shows it */
#define THE_FD 3

enum verb { VERB_MOUNT = 1, VERB_PROBE, VERB_UNMOUNT, VERB_DETACH, VERB_SYNC, VERB_HOLDS };

struct request {
	uint32_t verb;
	int32_t pid;
	uint64_t device, ino;
};

struct answer {
	int64_t result;
	uint64_t device;
};

/* What the steward itself knows. */
struct duties {
	const struct mount_options *opt;
	struct log *log;
	dev_t device; /* of the mount, once it has been seen */
};

/* ---- in the steward's process ------------------------------------------------ */

static int keep_rights(const struct duties *m, uint64_t keep)
{
	int err = 0;

	if (m->opt->confine == OPTIONS_OFF)
		return 0;
	if (geteuid() == 0) /* for others fusermount3 has to work, which is set-user-ID */
		err = confine_privileges();
	return err || geteuid() != 0 ? err : confine_capabilities(keep);
}

static int close_streams(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return -errno;
	for (int fd = 0; fd <= 2; fd++)
		(void)dup2(null, fd);
	if (null > 2)
		close(null);
	return 0;
}

/* The messages of libfuse and of fusermount3 go to standard error, which is closed afterwards. */
static int do_mount(struct duties *m)
{
	struct fuse_session *fuse = NULL;
	int err = session_new(m->opt, NULL, &fuse);
	int fd;

	if (err)
		return err;
	if (fuse_session_mount(fuse, m->opt->dir))
		return -EIO;
	fd = fuse_session_fd(fuse); /* the session is left as it is: to end it would unmount */
	err = close_streams();
	(void)setsid();
	if (!err)
		err = keep_rights(m, CONFINE_CAP(CAP_SYS_ADMIN) | CONFINE_CAP(CAP_DAC_READ_SEARCH));
	if (err)
		close(fd);
	return err ? err : fd;
}

static int do_probe(struct duties *m)
{
	struct stat st;

	if (stat(m->opt->dir, &st))
		return -errno;
	m->device = st.st_dev;
	return 0;
}

static int run_fusermount(const char *dir, const char *how)
{
	char program[] = "fusermount3", quiet[] = "-q", ends[] = "--";
	char *mode = strdup(how), *where = strdup(dir);
	char *argv[] = {program, quiet, mode, ends, where, NULL};
	int status = -1;
	pid_t pid;

	if (mode && where && !posix_spawnp(&pid, program, NULL, NULL, argv, environ))
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	free(mode);
	free(where);
	return status == 0 ? 0 : -EBUSY;
}

/* Whether our mount is the one that is seen at its directory, or one whose daemon is gone. */
static bool is_visible(const struct duties *m)
{
	struct stat st;

	if (stat(m->opt->dir, &st))
		return errno == ENOTCONN || errno == ECONNABORTED;
	return m->device && st.st_dev == m->device;
}

static int do_unmount(const struct duties *m, bool detach)
{
	if (!is_visible(m))
		return -ENOENT;
	if (geteuid() != 0)
		return run_fusermount(m->opt->dir, detach ? "-uz" : "-u");
	return umount2(m->opt->dir, UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0)) ? -errno : 0;
}

static int do_sync(const struct duties *m)
{
	int fd = open(m->opt->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	err = syncfs(fd) ? -errno : 0;
	close(fd);
	return err;
}

/* @fd: what to send with the answer, -1: nothing */
static void answer(struct duties *m, const struct request *r, struct answer *a, int *fd)
{
	*a = (struct answer){0};
	*fd = -1;
	switch (r->verb) {
	case VERB_MOUNT:
		*fd = do_mount(m);
		a->result = *fd < 0 ? *fd : 0;
		break;
	case VERB_PROBE:
		a->result = do_probe(m);
		a->device = m->device;
		break;
	case VERB_UNMOUNT:
	case VERB_DETACH:
		a->result = do_unmount(m, r->verb == VERB_DETACH);
		break;
	case VERB_SYNC:
		a->result = do_sync(m);
		break;
	case VERB_HOLDS:
		a->result = procs_hold(r->pid, (dev_t)r->device, r->ino);
		break;
	default:
		a->result = -EINVAL;
	}
}

/* A record, with a descriptor if @fd is one. */
static int send_record(int socket, const void *data, size_t len, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	struct iovec iov = {(void *)(uintptr_t)data, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;
	ssize_t n;

	if (fd >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		*c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	do
		n = sendmsg(socket, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* Return: 0, -ENOTCONN at the end, -errno. @fd: receives a descriptor, else unchanged */
static int receive_record(int socket, void *data, size_t len, int *fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	struct iovec iov = {data, len};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return n == (ssize_t)len ? 0 : -ENOTCONN;
}

static void serve(struct duties *m, int socket)
{
	struct request r;
	struct answer a;
	int fd = -1, err = 0;

	while (!err && !receive_record(socket, &r, sizeof(r), &fd)) {
		answer(m, &r, &a, &fd);
		err = send_record(socket, &a, sizeof(a), fd);
		/* The daemon's is the only one: with it the connection ends. */
		if (fd >= 0)
			close(fd);
	}
}

static void ignore_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP};
	const struct sigaction ignore = {.sa_handler = SIG_IGN};

	for (size_t i = 0; i < KV_ARRAY_COUNT(signals); i++)
		(void)sigaction(signals[i], &ignore, NULL);
}

/* Who looks for the daemon by its command line finds the daemon alone. */
static void become(struct mount_options *own)
{
	own->volume = strdup(own->volume);
	own->dir = strdup(own->dir);
	if (!own->volume || !own->dir)
		_exit(1);
	(void)prctl(PR_SET_NAME, NAME, 0, 0, 0);
	memset(own->command_line, 0, own->command_line_len);
	if (own->command_line_len > strlen(NAME))
		memcpy(own->command_line, NAME, strlen(NAME));
}

/* Never returns. */
static void run(enum steward_duty duty, struct duties *m, int socket)
{
	struct mount_options own = *m->opt;
	int err = 0;

	ignore_signals();
	become(&own);
	m->opt = &own;
	/* Others wait for the end of what it has inherited: a caller's pipe, the verdict's. */
	if (dup2(socket, THE_FD) != THE_FD || syscall(SYS_close_range, THE_FD + 1, UINT_MAX, 0))
		_exit(1);
	(void)fcntl(THE_FD, F_SETFD, FD_CLOEXEC);
	if (duty == STEWARD_LOOKS) {
		err = close_streams();
		(void)setsid();
		if (!err)
			err = keep_rights(m, CONFINE_CAP(CAP_SYS_PTRACE) |
						     CONFINE_CAP(CAP_DAC_READ_SEARCH));
	}
	if (!err && !chdir("/"))
		serve(m, THE_FD);
	_exit(err ? 1 : 0);
}

/* ---- in the daemon ------------------------------------------------------------- */

int steward_start(struct steward *s, enum steward_duty duty, const struct mount_options *opt,
		  struct log *log)
{
	struct duties m = {.opt = opt, .log = log};
	int fds[2];
	int err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return -errno;
	err = -pthread_mutex_init(&s->mu, NULL);
	if (err)
		goto out;
	s->pid = fork();
	if (s->pid == 0)
		run(duty, &m, fds[1]);
	if (s->pid < 0) {
		err = -errno;
		(void)pthread_mutex_destroy(&s->mu);
		goto out;
	}
	s->fd = fds[0];
	fds[0] = -1;
out:
	close(fds[1]);
	if (fds[0] >= 0)
		close(fds[0]);
	return err;
}

void steward_stop(struct steward *s)
{
	if (!s)
		return;
	close(s->fd);
	while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		;
	(void)pthread_mutex_destroy(&s->mu);
}

static int ask(struct steward *s, const struct request *r, struct answer *a, int *fd)
{
	int err;

	if (!s)
		return -ENOTCONN;
	pthread_mutex_lock(&s->mu);
	err = send_record(s->fd, r, sizeof(*r), -1);
	if (!err)
		err = receive_record(s->fd, a, sizeof(*a), fd);
	pthread_mutex_unlock(&s->mu);
	return err ? err : (int)a->result;
}

int steward_mount(struct steward *s)
{
	const struct request r = {.verb = VERB_MOUNT};
	struct answer a;
	int fd = -1;
	int err = ask(s, &r, &a, &fd);

	if (!err && fd < 0)
		err = -EIO;
	return err ? err : fd;
}

int steward_probe(struct steward *s, dev_t *device)
{
	const struct request r = {.verb = VERB_PROBE};
	struct answer a = {0};
	int fd = -1;
	int err = ask(s, &r, &a, &fd);

	if (!err)
		*device = (dev_t)a.device;
	return err;
}

int steward_unmount(struct steward *s, bool detach)
{
	const struct request r = {.verb = detach ? VERB_DETACH : VERB_UNMOUNT};
	struct answer a;
	int fd = -1;

	return ask(s, &r, &a, &fd);
}

int steward_sync(struct steward *s)
{
	const struct request r = {.verb = VERB_SYNC};
	struct answer a;
	int fd = -1;

	return ask(s, &r, &a, &fd);
}

bool steward_process_holds(struct steward *s, pid_t pid, dev_t device, uint64_t ino)
{
	const struct request r = {
		.verb = VERB_HOLDS, .pid = pid, .device = (uint64_t)device, .ino = ino};
	struct answer a;
	int fd = -1;

	return ask(s, &r, &a, &fd) != 0;
}
