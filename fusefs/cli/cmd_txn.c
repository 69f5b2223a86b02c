/* SPDX-License-Identifier: MIT */
/*
 * kvfs begin, commit, abort and txn: what mkdir, mv and rmdir do in .kvfs/txn, with sentences for
 * what they refuse. A commit is an ioctl on the transaction's directory, since to move a directory
 * one has to be able to write it, and that is the volume's root.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/io.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/run.h"
#include "fusefs/model/channel_format.h"
#include "kvcore/base/buf.h"

#define RETRIES_MAX 1000000UL

const char cmd_begin_help[] =
	"usage: kvfs begin [--serializable] DIR [NAME]\n"
	"\n"
	"Begin a transaction on the volume that is mounted at DIR and print the directory in\n"
	"which it is: all of the volume as it is now, to be changed with any tool. Nobody else\n"
	"sees the changes before kvfs commit DIR NAME. Without NAME one is chosen.\n"
	"\n"
	"  -s, --serializable  what was read must not have changed either\n";

const char cmd_commit_help[] =
	"usage: kvfs commit DIR NAME\n"
	"\n"
	"Make all that was changed in the transaction NAME visible at one instant, and durable.\n"
	"If others have changed the same meanwhile, nothing is changed, the paths are printed to\n"
	"standard error, and the transaction is still there, to be looked at and aborted.\n"
	"\n"
	"Exit status: 0 if it was committed, else 1.\n";

const char cmd_abort_help[] = "usage: kvfs abort DIR NAME\n"
			      "\n"
			      "Drop the transaction NAME and all that was changed in it.\n";

const char cmd_txn_help[] =
	"usage: kvfs txn [--retry N] [--serializable] DIR -- COMMAND [ARGUMENT]...\n"
	"\n"
	"Run COMMAND in a transaction on the volume that is mounted at DIR. Its working\n"
	"directory is DIR as the transaction sees it; KVFS_TXN in its environment is the path\n"
	"of it. If it exits with status 0, all its changes become visible at one instant;\n"
	"otherwise there are none.\n"
	"\n"
	"  -r, --retry N       begin and run it again, up to N times, when others have changed\n"
	"                      the same meanwhile\n"
	"  -s, --serializable  what was read must not have changed either\n"
	"\n"
	"Exit status: that of COMMAND; 128 and the number of the signal that ended it; 127 or\n"
	"126 if it could not be run; 1 if there was no transaction or it was not committed.\n";

static const char *explain(int err)
{
	switch (err) {
	case -ENOENT:
		return "there is no such transaction";
	case -EEXIST:
		return "there is a transaction of that name already";
	case -EINVAL:
		return "a transaction's name is that of a file: no slash, not . or ..";
	case -ENAMETOOLONG:
		return "a transaction's name has at most 255 bytes";
	case -EACCES:
	case -EPERM:
		return "only root and who began a transaction may end it";
	case -EBUSY:
		return "it is being committed";
	case -ENFILE:
		return "too many transactions are open";
	case -EAGAIN:
		return "not committed: others have changed the same";
	case -ESTALE:
		return "it has ended";
	default:
		return err == -ENOSPC ? "the volume is full" : control_message(err);
	}
}

/* ---- one transaction of a mount ---- */

static int begin(const struct target *t, const char *name, bool serializable)
{
	int fd = control_open(t, "txn", O_RDONLY | O_DIRECTORY);
	int err;

	if (fd < 0)
		return fd;
	err = mkdirat(fd, name, serializable ? 01777 : 0777) ? -errno : 0;
	(void)close(fd);
	return err;
}

static int drop(const struct target *t, const char *name)
{
	int fd = control_open(t, "txn", O_RDONLY | O_DIRECTORY);
	int err;

	if (fd < 0)
		return fd;
	err = unlinkat(fd, name, AT_REMOVEDIR) ? -errno : 0;
	(void)close(fd);
	return err;
}

static int commit(const struct target *t, const char *name)
{
	int dir = control_open(t, "txn", O_RDONLY | O_DIRECTORY);
	int fd, err;

	if (dir < 0)
		return dir;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	err = fd < 0 || ioctl(fd, KVFS_IOC_COMMIT) ? -errno : 0;
	if (fd >= 0)
		(void)close(fd);
	(void)close(dir);
	return err;
}

/* The paths of a transaction in .kvfs/conflicts, as they are there. */
static void print_conflicts(const struct target *t, const char *name)
{
	struct kv_buf want = {0};
	char *line = NULL;
	size_t cap = 0;
	FILE *f;
	int fd = control_open(t, "conflicts", O_RDONLY);

	f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	if (!buf_append_escaped(&want, kv_slice_of(name, strlen(name))) &&
	    !buf_append(&want, "\t", 2))
		while (getline(&line, &cap, f) > 0)
			if (!strncmp(line, (char *)want.data, want.len - 1))
				(void)fprintf(stderr, "  %s", line + want.len - 1);
	free(line);
	(void)fclose(f);
	kv_buf_free(&want);
}

static int choose_name(struct kv_buf *out)
{
	return buf_printf(out, "txn.%lld.%d", (long long)time(NULL), (int)getpid());
}

/* ---- begin ---- */

static int begin_and_print(const struct target *t, const char *name, bool serializable)
{
	struct kv_buf chosen = {0};
	int err = name ? 0 : choose_name(&chosen);

	if (!name)
		name = (char *)chosen.data;
	if (!err)
		err = begin(t, name, serializable);
	if (err)
		message(t->name, "%s", explain(err));
	else
		(void)printf("%s/.kvfs/txn/%s\n", t->mount.dir, name);
	kv_buf_free(&chosen);
	return err ? CMD_FAILED : CMD_OK;
}

static int open_mounted(const char *name, struct target *t)
{
	if (target_open(name, TARGET_READ, t))
		return -1;
	if (t->mounted)
		return 0;
	message(name, "not mounted: there are transactions of mounted volumes only");
	(void)!target_close(t);
	return -1;
}

static int close_mounted(struct target *t, int status)
{
	return target_close(t) && status == CMD_OK ? CMD_FAILED : status;
}

int cmd_begin(int argc, char **argv)
{
	static const struct option longs[] = {
		{"help", no_argument, NULL, 'h'},
		{"serializable", no_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	bool serializable = false;
	struct target t;
	int c;

	while ((c = cmd_next(argc, argv, ":hs", longs)) != CMD_OPT_END) {
		if (c == CMD_OPT_HELP) {
			(void)fputs(cmd_begin_help, stdout);
			return CMD_OK;
		}
		if (c == CMD_OPT_BAD)
			return CMD_USAGE;
		serializable = true;
	}
	if (!cmd_check_words(argc, argv, 1, 2))
		return CMD_USAGE;
	if (open_mounted(argv[optind], &t))
		return CMD_FAILED;
	return close_mounted(
		&t, begin_and_print(&t, optind + 1 < argc ? argv[optind + 1] : NULL, serializable));
}

/* ---- commit and abort ---- */

static int end_one(int argc, char **argv, const char *help,
		   int (*end)(const struct target *t, const char *name))
{
	struct target t;
	int go = cmd_only_help(argc, argv, ":h", help);
	int err;

	if (go != CMD_GO_ON)
		return go;
	if (!cmd_check_words(argc, argv, 2, 2))
		return CMD_USAGE;
	if (open_mounted(argv[optind], &t))
		return CMD_FAILED;
	err = strchr(argv[optind + 1], '/') ? -EINVAL : end(&t, argv[optind + 1]);
	if (err)
		message(argv[optind + 1], "%s", explain(err));
	if (err == -EAGAIN)
		print_conflicts(&t, argv[optind + 1]);
	return close_mounted(&t, err ? CMD_FAILED : CMD_OK);
}

int cmd_commit(int argc, char **argv)
{
	return end_one(argc, argv, cmd_commit_help, commit);
}

int cmd_abort(int argc, char **argv)
{
	return end_one(argc, argv, cmd_abort_help, drop);
}

/* ---- txn ---- */

struct run {
	const struct target *t;
	bool serializable;
	unsigned long retries;
	char *below; /* where in the volume */
	char **argv;
};

/* Begin, run, end. @again: it was lost to others. */
static int run_once(const struct run *r, const char *name, bool *again)
{
	struct kv_buf dir = {0};
	int status = CMD_FAILED;
	int err;

	*again = false;
	if (buf_printf(&dir, "%s/.kvfs/txn/%s%s", r->t->mount.dir, name, r->below))
		return CMD_FAILED;
	err = begin(r->t, name, r->serializable);
	if (err) {
		message(r->t->name, "%s", explain(err));
		goto out;
	}
	status = run_command(r->argv, (char *)dir.data, "KVFS_TXN");
	err = status ? 0 : commit(r->t, name);
	if (err) {
		status = CMD_FAILED;
		*again = err == -EAGAIN;
		if (!*again || !r->retries) {
			message(r->t->name, "%s", explain(err));
			print_conflicts(r->t, name);
		}
	}
	if (status) {
		err = drop(r->t, name);
		if (err && err != -ENOENT)
			message(r->t->name, "transaction %s is left: %s", name, explain(err));
	}
out:
	kv_buf_free(&dir);
	return status;
}

static int run_all(struct run *r)
{
	struct kv_buf name = {0};
	bool again = true;
	int status = CMD_FAILED;

	r->below = control_below(r->t);
	if (!r->below || choose_name(&name)) {
		message(r->t->name, "%s", control_message(-EXDEV));
	} else {
		status = run_once(r, (char *)name.data, &again);
		while (again && r->retries) {
			r->retries--;
			status = run_once(r, (char *)name.data, &again);
		}
	}
	free(r->below);
	kv_buf_free(&name);
	return status;
}

static bool parse_retries(const char *text, unsigned long *out)
{
	char *end;

	errno = 0;
	*out = strtoul(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *out <= RETRIES_MAX;
}

int cmd_txn(int argc, char **argv)
{
	static const struct option longs[] = {
		{"help", no_argument, NULL, 'h'},
		{"retry", required_argument, NULL, 'r'},
		{"serializable", no_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	struct run r = {0};
	struct target t;
	int c;

	while ((c = cmd_next(argc, argv, ":hr:s", longs)) != CMD_OPT_END) {
		if (c == CMD_OPT_HELP) {
			(void)fputs(cmd_txn_help, stdout);
			return CMD_OK;
		}
		if (c == CMD_OPT_BAD)
			return CMD_USAGE;
		if (c == 's') {
			r.serializable = true;
		} else if (!parse_retries(optarg, &r.retries)) {
			message(NULL, "txn: --retry wants a number, not '%s'", optarg);
			return CMD_USAGE;
		}
	}
	if (optind + 1 >= argc) {
		message(NULL, "txn: %s; see kvfs txn --help",
			optind >= argc ? "no directory given" : "no command given");
		return CMD_USAGE;
	}
	if (open_mounted(argv[optind], &t))
		return CMD_FAILED;
	r.t = &t;
	r.argv = argv + optind + 1;
	return close_mounted(&t, run_all(&r));
}
