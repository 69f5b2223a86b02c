/* SPDX-License-Identifier: MIT */
/*
 * kvfs backup: a snapshot for as long as a command runs. The command gets the
 * signals that are sent here, and whatever ends it, the snapshot is dropped; only
 * a kill of this process itself leaves it behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/message.h"
#include "kvcore/base/buf.h"

#define STATUS_NOT_FOUND 127
#define STATUS_NOT_RUN	 126
#define STATUS_SIGNAL	 128

const char cmd_backup_help[] =
	"usage: kvfs backup DIR -- COMMAND [ARGUMENT]...\n"
	"\n"
	"Take a snapshot of the volume that is mounted at DIR, run COMMAND in it, and drop\n"
	"it afterwards. The working directory of COMMAND is DIR as it was at one instant;\n"
	"KVFS_SNAPSHOT in its environment is the path of it.\n"
	"\n"
	"Exit status: that of COMMAND; 128 and the number of the signal that ended it; 127\n"
	"or 126 if it could not be run; 1 if there was no snapshot to run it in.\n";

static sigset_t watched(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	return set;
}

/* What the child does; it does not return. */
static void run_child(char **argv, const char *dir, const sigset_t *mask)
{
	int err = 0;

	if (chdir(dir) || setenv("KVFS_SNAPSHOT", dir, 1)) {
		message(dir, "%s", strerror(errno));
		_exit(STATUS_NOT_RUN);
	}
	(void)sigprocmask(SIG_SETMASK, mask, NULL);
	(void)execvp(argv[0], argv);
	err = errno;
	message(argv[0], "%s", strerror(err));
	_exit(err == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_RUN);
}

/* Wait for the child, and pass signals on. A terminal sends its own to the child too. */
static int wait_for(pid_t child, const sigset_t *set)
{
	siginfo_t info;
	int status;

	for (;;) {
		if (sigwaitinfo(set, &info) < 0)
			continue;
		if (info.si_signo != SIGCHLD) {
			if (info.si_code != SI_KERNEL)
				(void)kill(child, info.si_signo);
			continue;
		}
		if (waitpid(child, &status, WNOHANG) == child)
			return WIFSIGNALED(status) ? STATUS_SIGNAL + WTERMSIG(status)
						   : WEXITSTATUS(status);
	}
}

static int run_command(char **argv, const char *dir)
{
	sigset_t set = watched(), old;
	pid_t child;

	if (sigprocmask(SIG_BLOCK, &set, &old)) {
		message(NULL, "%s", strerror(errno));
		return CMD_FAILED;
	}
	(void)fflush(stdout);
	child = fork();
	if (child == 0)
		run_child(argv, dir, &old);
	if (child < 0) {
		message(argv[0], "%s", strerror(errno));
		return CMD_FAILED;
	}
	return wait_for(child, &set);
}

static int backup(const struct target *t, char **argv)
{
	struct kv_buf name = {0}, dir = {0};
	char *below = control_below(t);
	int status = CMD_FAILED;
	int err = below ? 0 : -EXDEV;

	if (!err)
		err = buf_printf(&name, "backup.%lld.%d", (long long)time(NULL), (int)getpid());
	if (!err)
		err = buf_printf(&dir, "%s/.kvfs/snapshots/%s%s", t->mount.dir, (char *)name.data,
				 below);
	if (!err)
		err = control_create(t, (char *)name.data);
	if (err) {
		message(t->name, "%s", control_message(err));
		goto out;
	}
	status = run_command(argv, (char *)dir.data);
	err = control_drop(t, (char *)name.data);
	if (err) {
		message(t->name, "snapshot %s is left: %s", (char *)name.data,
			control_message(err));
		if (status == CMD_OK)
			status = CMD_FAILED;
	}
out:
	free(below);
	kv_buf_free(&name);
	kv_buf_free(&dir);
	return status;
}

int cmd_backup(int argc, char **argv)
{
	struct target t;
	int go = cmd_only_help(argc, argv, "+:h", cmd_backup_help);
	int status, at;

	if (go != CMD_GO_ON)
		return go;
	at = optind + 1;
	if (at < argc && !strcmp(argv[at], "--"))
		at++;
	if (at >= argc) {
		message(NULL, "backup: %s; see kvfs backup --help",
			optind >= argc ? "no directory given" : "no command given");
		return CMD_USAGE;
	}
	if (target_open(argv[optind], TARGET_READ, &t))
		return CMD_FAILED;
	if (t.mounted) {
		status = backup(&t, argv + at);
	} else {
		message(t.name, "not mounted; copy the volume itself, or mount it");
		status = CMD_FAILED;
	}
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}
