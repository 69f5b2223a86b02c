/* SPDX-License-Identifier: MIT */
/*
 * Requests are served by other threads (pool.h), so that the first one is free to
 * wait for signals and to unmount meanwhile: the kernel writes back what mmap(2)
 * or the write-back cache hold, which a daemon that just stops serving would lose.
 *
 *   session_start -> serving -+- umount(8): ENODEV from /dev/fuse --------> session_wait returns
 *                             +- SIGTERM: unmount() -> the same
 *                             +- SIGTERM, files open: syncfs, detach, stop_serving()
 *
 * What needs rights is done by a steward (steward.h). SIGUSR2 tells the first thread that serving
 * has ended, SIGUSR1 interrupts a read.
 */
#include "fusefs/session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/device.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define STOP_RETRY_NS (20 * 1000 * 1000)

static void no_action(int sig)
{
	(void)sig;
}

static sigset_t waited_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR2);
	return set;
}

static int set_signals(void)
{
	struct sigaction interrupt = {.sa_handler = no_action}; /* no SA_RESTART */
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t set = waited_signals();

	sigaddset(&set, SIGUSR1);
	if (sigaction(SIGUSR1, &interrupt, NULL) || sigaction(SIGPIPE, &ignore, NULL))
		return -errno;
	return -pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* ---- the threads that serve ---- */

static int start_pool(struct session *s)
{
	const struct mount_options *opt = s->d->opt;

	return pool_start(&s->pool, s->d, s->fuse,
			  opt->threads ? opt->threads : OPTIONS_THREADS_DEFAULT,
			  opt->sync == OPTIONS_ON);
}

/*
 * Make the pool end although nobody unmounted. The flag is only looked at between
 * requests, and the interruption may come just before the read, so it is repeated.
 */
static void stop_serving(struct session *s)
{
	const struct timespec pause = {0, STOP_RETRY_NS};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	fuse_session_exit(s->fuse);
	while (!pool_ended(&s->pool)) {
		pool_interrupt(&s->pool);
		(void)sigtimedwait(&set, NULL, &pause);
	}
}

/* ---- mounting ---- */

static int add_option(char **options, const char *option)
{
	return fuse_opt_add_opt_escaped(options, option) ? -ENOMEM : 0;
}

static const struct {
	size_t field;
	int value;
	const char *name;
} passed_on[] = {
	{offsetof(struct mount_options, readonly), OPTIONS_ON, "ro"},
	{offsetof(struct mount_options, nosuid), OPTIONS_OFF, "suid"},
	{offsetof(struct mount_options, nodev), OPTIONS_OFF, "dev"},
	{offsetof(struct mount_options, noexec), OPTIONS_ON, "noexec"},
	{offsetof(struct mount_options, atime), OPTIONS_NOATIME, "noatime"},
	{offsetof(struct mount_options, allow_other), OPTIONS_ON, "allow_other"},
	{offsetof(struct mount_options, debug), OPTIONS_ON, "debug"},
};

/*
 * "sync" is not among them: the daemon obeys it by itself, and the kernel would
 * send an fsync after each write, of which every one would find nothing to do.
 */
static int collect_options(const struct mount_options *opt, const char *source, char **out)
{
	struct kv_buf fsname = {0};
	int value;
	int err;

	err = buf_printf(&fsname, "fsname=%s", source);
	if (!err)
		err = add_option(out, (const char *)fsname.data);
	kv_buf_free(&fsname);
	if (!err)
		err = add_option(out, "subtype=kvfs");
	if (!err && options_kernel_checks(opt))
		err = add_option(out, "default_permissions");
	for (size_t i = 0; !err && i < KV_ARRAY_COUNT(passed_on); i++) {
		memcpy(&value, (const char *)opt + passed_on[i].field, sizeof(value));
		if (value == passed_on[i].value)
			err = add_option(out, passed_on[i].name);
	}
	return err;
}

int session_new(const struct mount_options *opt, struct kvfsd *d, struct fuse_session **out)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char *options = NULL;
	int err;

	err = collect_options(opt, opt->volume, &options);
	if (err)
		goto out;
	err = -ENOMEM;
	if (fuse_opt_add_arg(&args, "mount.kvfs") || fuse_opt_add_arg(&args, "-o") ||
	    fuse_opt_add_arg(&args, options))
		goto out;
	*out = fuse_session_new(&args, &op_table, sizeof(op_table), d);
	if (*out)
		err = 0;
out:
	fuse_opt_free_args(&args);
	free(options);
	return err;
}

/* Wait for the kernel and the daemon to agree, by asking for the root directory. */
static int probe(struct session *s)
{
	dev_t device;
	int err = steward_probe(s->d->steward, &device);

	if (err)
		log_error(s->d->log, "%s: mounted, but does not answer: %s", s->dir,
			  strerror(-err));
	else
		atomic_store(&s->d->device, device);
	return err;
}

/* The steward mounts, and libfuse is given the connection: so it leaves the directory alone. */
static int attach(struct session *s)
{
	char name[32];
	int fd = steward_mount(s->d->steward);

	if (fd < 0)
		return fd; /* libfuse or fusermount3 has said why */
	(void)snprintf(name, sizeof(name), "/dev/fd/%d", fd);
	if (!fuse_session_mount(s->fuse, name))
		return 0;
	close(fd);
	return -EIO;
}

int session_start(struct session *s, struct kvfsd *d)
{
	bool started = false;
	int err;

	*s = (struct session){.d = d, .dir = d->opt->dir};
	err = session_new(d->opt, d, &s->fuse);
	if (err) {
		log_error(d->log, "cannot start a session: %s", strerror(-err));
		return err;
	}
	d->fuse = s->fuse;
	err = set_signals();
	if (!err)
		err = attach(s);
	if (err)
		goto out;
	err = device_attach(s->fuse);
	if (err)
		goto out;
	err = direct_start(&d->direct, s->fuse);
	if (!err)
		err = start_pool(s);
	if (err) {
		log_error(d->log, "cannot start threads: %s", strerror(-err));
		goto out;
	}
	started = true;
	err = probe(s);
	if (!err)
		err = txn_start(&d->txns, d, s->fuse);
	if (!err)
		err = feed_start(d);
	if (!err)
		err = keeper_start(&d->keeper, d, s->fuse);
out:
	if (!err)
		return 0;
	txn_stop(&d->txns);
	if (started) {
		stop_serving(s);
		(void)!pool_join(&s->pool);
	}
	direct_stop(&d->direct);
	fuse_session_destroy(s->fuse);
	(void)!steward_unmount(d->steward, true);
	return err;
}

/* ---- the end ---- */

static void unmount_on_signal(struct session *s)
{
	struct steward *steward = s->d->steward;
	int err = steward_unmount(steward, false);

	if (!err)
		return;
	if (err != -ENOENT) {
		/* Files are open. They stop working, but what was written to them is kept. */
		err = steward_sync(steward);
		if (err)
			log_error(s->d->log, "%s: the kernel cannot write back: %s", s->dir,
				  strerror(-err));
		(void)!steward_unmount(steward, true);
	}
	stop_serving(s);
}

int session_wait(struct session *s)
{
	sigset_t set = waited_signals();
	bool signalled = false;
	int sig, err;

	while (!pool_ended(&s->pool)) {
		sig = sigwaitinfo(&set, NULL);
		if (sig < 0 || sig == SIGUSR2 || signalled)
			continue;
		signalled = true;
		log_line(s->d->log, KV_LOG_INFO, "%s: unmounting on %s", s->dir, strsignal(sig));
		unmount_on_signal(s);
	}
	keeper_stop(&s->d->keeper);
	txn_stop(&s->d->txns);
	err = pool_join(&s->pool);
	direct_stop(&s->d->direct);
	fuse_session_destroy(s->fuse);
	if (err) /* nobody has unmounted */
		(void)!steward_unmount(s->d->steward, true);
	return err;
}
