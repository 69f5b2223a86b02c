/* SPDX-License-Identifier: MIT */
/*
 * From the command line to a serving daemon. In the background the process forks
 * before it opens the volume: the child does everything, and its parent, which
 * the user waits for, ends with the child's verdict once the mount answers. A
 * child that dies without a verdict has failed.
 *
 * umount(8) returns before a FUSE daemon is done. So a volume that somebody holds
 * is waited for, unless it is still in the table of mounts.
 */
#include "fusefs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/channel.h"
#include "fusefs/confine.h"
#include "fusefs/mountinfo.h"
#include "fusefs/session.h"

#define DEVICE		 "/dev/fuse"
#define FUSE_CONF	 "/etc/fuse.conf"
#define WAIT_FOR_CLOSE_S 30

struct rights {
	struct log *log;
	bool given_up;
};

struct paths {
	char *volume, *dir; /* absolute */
};

/* ---- what can be told before anything is started ---- */

static int resolve_volume(const struct mount_options *opt, struct log *log, char **out)
{
	struct stat st;
	int err;

	*out = realpath(opt->volume, NULL);
	if (!*out || stat(*out, &st)) {
		err = -errno;
		log_error(log, "%s: %s%s", opt->volume, strerror(-err),
			  err == -ENOENT ? "; make a volume with mkfs.kvfs" : "");
		return err;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		log_error(log, "%s: neither a regular file nor a block device", opt->volume);
		return -EINVAL;
	}
	return 0;
}

static int resolve_dir(const struct mount_options *opt, struct log *log, char **out)
{
	struct stat st;
	int err;

	*out = realpath(opt->dir, NULL);
	if (!*out || stat(*out, &st)) {
		err = -errno;
		log_error(log, "%s: %s%s", opt->dir, strerror(-err),
			  err == -ENOTCONN ? "; a daemon died there: unmount it first"
			  : err == -ENOENT ? "; make the directory first"
					   : "");
		return err;
	}
	if (!S_ISDIR(st.st_mode)) {
		log_error(log, "%s: not a directory", opt->dir);
		return -ENOTDIR;
	}
	return 0;
}

static int check_device(struct log *log)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	int err;

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	err = -errno;
	if (err == -ENOENT || err == -ENODEV || err == -ENXIO)
		log_error(log, DEVICE " is missing; load it with 'modprobe fuse'");
	else if (err == -EACCES || err == -EPERM)
		log_error(log, "no rights to " DEVICE "; mount as root, or let this user open it");
	else
		log_error(log, DEVICE ": %s", strerror(-err));
	return err;
}

/* Whether /etc/fuse.conf lets users give allow_other. */
static bool users_may_allow_other(void)
{
	char line[256], word[32];
	bool found = false;
	FILE *conf = fopen(FUSE_CONF, "re");

	if (!conf)
		return false;
	while (!found && fgets(line, sizeof(line), conf))
		found = sscanf(line, " %31[a-z_]", word) == 1 &&
			strcmp(word, "user_allow_other") == 0;
	(void)fclose(conf);
	return found;
}

static int check_user(const struct mount_options *opt, struct log *log)
{
	if (geteuid() == 0)
		return 0;
	if (opt->nosuid == OPTIONS_OFF || opt->nodev == OPTIONS_OFF) {
		log_error(log, "only root may mount with suid or dev");
		return -EPERM;
	}
	if (opt->allow_other == OPTIONS_ON && !users_may_allow_other()) {
		log_error(log, "allow_other needs the line user_allow_other in " FUSE_CONF);
		return -EPERM;
	}
	return 0;
}

static int check_not_mounted(const struct paths *paths, struct log *log)
{
	struct kv_buf where = {0};
	int found = mountinfo_find_source(paths->volume, &where);

	if (found > 0)
		log_error(log, "%s: is already mounted at %s", paths->volume, (char *)where.data);
	kv_buf_free(&where);
	/* Without /proc the open decides, and waits. */
	return found > 0 ? -EBUSY : 0;
}

static int check(const struct mount_options *opt, struct log *log, struct paths *out)
{
	int err = resolve_volume(opt, log, &out->volume);

	if (!err)
		err = resolve_dir(opt, log, &out->dir);
	if (!err)
		err = check_user(opt, log);
	if (!err)
		err = check_device(log);
	if (!err)
		err = check_not_mounted(out, log);
	return err;
}

/* ---- the volume ---- */

static void explain_open(const char *volume, int err, bool readonly, struct log *log)
{
	if (err == -KV_E_IN_USE)
		log_error(log, "%s: still in use by another process after %d seconds", volume,
			  WAIT_FOR_CLOSE_S);
	else if (!readonly && (err == -EACCES || err == -EPERM || err == -EROFS))
		log_error(log, "%s: cannot be written: %s; mount it with -o ro", volume,
			  kv_strerror(err));
	else
		log_error(log, "%s: %s", volume, kv_strerror(err));
}

/* Opening is the last thing that needs rights, and what is read from now on is a stranger's. */
static int give_up_rights(void *ctx)
{
	struct rights *r = ctx;
	int err = r->given_up ? 0 : confine_daemon(r->log);

	r->given_up = !err;
	return err;
}

static void fill_options(const struct mount_options *opt, struct rights *rights,
			 struct kvfs_options *out)
{
	*out = (struct kvfs_options){
		.atime = opt->atime == OPTIONS_NOATIME	     ? KVFS_NOATIME
			 : opt->atime == OPTIONS_STRICTATIME ? KVFS_STRICTATIME
							     : KVFS_RELATIME,
		.nodiratime = opt->nodiratime == OPTIONS_ON,
		.kv =
			{
				.cache_bytes = opt->cache_bytes,
				.commit_interval_ms = opt->commit_s * 1000,
				.wait_ms = WAIT_FOR_CLOSE_S * 1000,
				.log = &rights->log->sink,
				.opened = opt->confine == OPTIONS_OFF ? NULL : give_up_rights,
				.opened_ctx = rights,
			},
	};
	if (opt->sync == OPTIONS_ON)
		out->flags |= KVFS_SYNC;
	if (opt->lazytime == OPTIONS_ON)
		out->flags |= KVFS_LAZYTIME;
}

/* A block device can be opened for writing although it refuses to be written. */
static bool is_write_protected(const char *volume)
{
	int fd = open(volume, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int protected = 0;

	if (fd < 0)
		return false;
	if (ioctl(fd, BLKROGET, &protected))
	protected = 0; /* no block device */
	close(fd);
	return protected != 0;
}

/*
 * A read-only mount of a volume that can be written opens it for writing and
 * serves it read-only, so that it can be remounted.
 */
static int open_volume(const struct mount_options *opt, const char *volume, struct log *log,
		       struct kvfs **out)
{
	bool readonly = opt->readonly == OPTIONS_ON;
	struct rights rights = {.log = log};
	struct kvfs_options options;
	struct kvfs *fs = NULL;
	int err;

	fill_options(opt, &rights, &options);
	err = is_write_protected(volume) ? -EROFS : kvfs_open(volume, &options, &fs);
	if (readonly &&
	    (err == -EACCES || err == -EPERM || err == -EROFS || err == -KV_E_FEATURE)) {
		options.flags |= KVFS_RDONLY;
		err = kvfs_open(volume, &options, &fs);
	} else if (!err && readonly) {
		err = kvfs_set_readonly(fs, true);
	}
	if (err) {
		explain_open(volume, err, readonly, log);
		if (fs)
			(void)!kvfs_close(fs);
		return err;
	}
	*out = fs;
	return 0;
}

static int open_snapshot(const struct mount_options *opt, struct kvfs *live, struct log *log,
			 struct kvfs **out)
{
	int err = kvfs_open_snapshot(live, opt->snapshot, out);

	if (err)
		log_error(log, "%s: snapshot %s: %s", opt->volume, opt->snapshot,
			  err == -KV_E_NOTFOUND || err == -KV_E_NOT_A_VOLUME
				  ? "there is none of that name"
				  : kv_strerror(err));
	return err;
}

/* ---- the daemon ---- */

static int init_daemon(struct kvfsd *d)
{
	int err = listing_init(&d->listings);

	if (err)
		return err;
	err = tree_init(&d->trees);
	if (err)
		goto no_trees;
	err = staged_init(&d->staged);
	if (err)
		goto no_staged;
	err = control_init(&d->control);
	if (err)
		goto no_control;
	err = handle_init(&d->handles);
	if (err)
		goto no_handles;
	err = txn_init(&d->txns);
	if (!err)
		return 0;
	handle_fini(&d->handles);
no_handles:
	control_fini(&d->control);
no_control:
	staged_fini(&d->staged);
no_staged:
	tree_fini(&d->trees);
no_trees:
	listing_fini(&d->listings);
	return err;
}

static void fini_daemon(struct kvfsd *d)
{
	txn_fini(&d->txns);
	handle_fini(&d->handles);
	control_fini(&d->control);
	staged_fini(&d->staged);
	tree_fini(&d->trees);
	listing_fini(&d->listings);
}

/* What going into the background needs: it was got before files could no longer be opened. */
struct background {
	int report_fd; /* of the verdict */
	int null_fd;
};

/* Standard streams would keep a pipe or a terminal of the caller's open for as long as the mount
 * lives. */
static void go_background(struct log *log, const struct background *bg)
{
	int verdict = MOUNT_OK;

	(void)setsid(); /* fails for who leads a group, which a forked process never does */
	log_to_syslog(log);
	for (int fd = 0; fd <= 2; fd++)
		(void)dup2(bg->null_fd, fd);
	if (bg->null_fd > 2)
		close(bg->null_fd);
	/* If the parent is gone, nobody waits for the verdict. */
	(void)!write(bg->report_fd, &verdict, sizeof(verdict));
	close(bg->report_fd);
}

/* The volume is open; serve it until the end. */
static int serve_volume(struct kvfsd *d, const struct paths *paths, const struct background *bg)
{
	struct session session;
	int err;

	err = session_start(&session, d);
	if (err)
		return err;
	if (bg)
		go_background(d->log, bg);
	log_line(d->log, KV_LOG_INFO, "%s: mounted at %s", paths->volume, paths->dir);
	return session_wait(&session);
}

/* Open the volume, serve it and close it. The stewards run. */
static int open_and_serve(struct kvfsd *d, const struct paths *paths, const struct background *bg)
{
	struct kvfs *live = NULL;
	int err, close_err;

	err = open_volume(d->opt, paths->volume, d->log, &live);
	if (err)
		return err;
	d->fs = live;
	if (d->opt->snapshot[0])
		err = open_snapshot(d->opt, live, d->log, &d->fs);
	if (!err)
		err = serve_volume(d, paths, bg);
	control_close_directories(d);
	op_close_directories(d);
	tree_close_all(&d->trees);
	channel_end_all(&d->control);
	feed_stop(d);
	if (d->fs != live)
		(void)!kvfs_close(d->fs); /* it only read */
	close_err = kvfs_close(live);
	if (close_err)
		log_error(d->log, "%s: the last changes may be lost: %s", paths->volume,
			  kv_strerror(close_err));
	else
		log_line(d->log, KV_LOG_INFO, "%s: closed", paths->volume);
	return err ? err : close_err;
}

/* What the daemon cannot do once it has given up its rights, others do for it. */
static int with_stewards(struct kvfsd *d, const struct paths *paths, const struct background *bg)
{
	struct steward mounts, looks;
	int err = steward_start(&mounts, STEWARD_MOUNTS, d->opt, d->log);

	if (err)
		goto out;
	d->steward = &mounts;
	if (d->opt->txn != OPTIONS_TXN_WRITE)
		err = steward_start(&looks, STEWARD_LOOKS, d->opt, d->log);
	if (!err && d->opt->txn != OPTIONS_TXN_WRITE)
		d->looker = &looks;
out:
	if (err) {
		log_error(d->log, "cannot start: %s", strerror(-err));
	} else {
		tzset(); /* the zone of syslog's lines */
		err = open_and_serve(d, paths, bg);
	}
	steward_stop(d->looker);
	steward_stop(d->steward);
	d->looker = d->steward = NULL;
	return err;
}

static enum mount_status serve(const struct mount_options *opt, struct log *log,
			       const struct paths *paths, const struct background *bg)
{
	struct mount_options resolved = *opt;
	struct kvfsd d = {.opt = &resolved, .log = log};
	int err;

	resolved.volume = paths->volume;
	resolved.dir = paths->dir;
	if (geteuid() == 0) { /* as for other file systems, root says what is not allowed */
		resolved.nosuid = opt->nosuid == OPTIONS_ON ? OPTIONS_ON : OPTIONS_OFF;
		resolved.nodev = opt->nodev == OPTIONS_ON ? OPTIONS_ON : OPTIONS_OFF;
	}
	if (opt->snapshot[0])
		resolved.readonly = OPTIONS_ON;
	err = init_daemon(&d);
	if (err) {
		log_error(log, "cannot start: %s", kv_strerror(err));
		return MOUNT_FAILED;
	}
	err = with_stewards(&d, paths, bg);
	fini_daemon(&d);
	return err ? MOUNT_FAILED : MOUNT_OK;
}

/* In the child. */
static enum mount_status serve_behind(const struct mount_options *opt, struct log *log,
				      const struct paths *paths, int report_fd)
{
	struct background bg = {.report_fd = report_fd};

	bg.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (bg.null_fd < 0 || chdir("/")) {
		log_error(log, "cannot go into the background: %s", strerror(errno));
		return MOUNT_FAILED;
	}
	return serve(opt, log, paths, &bg);
}

static enum mount_status wait_for_verdict(pid_t child, int fd)
{
	int verdict, status;
	ssize_t n;

	do
		n = read(fd, &verdict, sizeof(verdict));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(verdict))
		return (enum mount_status)verdict;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return MOUNT_FAILED;
	return WIFEXITED(status) && WEXITSTATUS(status) ? (enum mount_status)WEXITSTATUS(status)
							: MOUNT_FAILED;
}

static enum mount_status serve_in_background(const struct mount_options *opt, struct log *log,
					     const struct paths *paths)
{
	enum mount_status status;
	int fds[2];
	pid_t child;

	if (pipe2(fds, O_CLOEXEC)) {
		log_error(log, "cannot make a pipe: %s", strerror(errno));
		return MOUNT_FAILED;
	}
	child = fork();
	if (child == 0) {
		close(fds[0]);
		return serve_behind(opt, log, paths, fds[1]);
	}
	if (child < 0)
		log_error(log, "cannot start the daemon: %s", strerror(errno));
	close(fds[1]);
	status = child < 0 ? MOUNT_FAILED : wait_for_verdict(child, fds[0]);
	close(fds[0]);
	return status;
}

enum mount_status mount_run(const struct mount_options *opt, struct log *log)
{
	enum mount_status status = MOUNT_FAILED;
	struct paths paths = {0};

	if (!check(opt, log, &paths))
		status = opt->foreground ? serve(opt, log, &paths, NULL)
					 : serve_in_background(opt, log, &paths);
	free(paths.volume);
	free(paths.dir);
	return status;
}
