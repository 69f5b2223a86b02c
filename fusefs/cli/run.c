/* SPDX-License-Identifier: MIT */
/*
 * A command that is run for as long as something is held for it. It gets the signals that
 * are sent here, so that what is held can be released whatever ends it.
 */
#include "fusefs/cli/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/message.h"

#define STATUS_NOT_FOUND 127
#define STATUS_NOT_RUN	 126
#define STATUS_SIGNAL	 128

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
static void run_child(char **argv, const char *dir, const char *variable, const sigset_t *mask)
{
	int err = 0;

	if (chdir(dir) || setenv(variable, dir, 1)) {
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

int run_command(char **argv, const char *dir, const char *variable)
{
	sigset_t set = watched(), old;
	pid_t child;
	int status;

	if (sigprocmask(SIG_BLOCK, &set, &old)) {
		message(NULL, "%s", strerror(errno));
		return CMD_FAILED;
	}
	(void)fflush(stdout);
	child = fork();
	if (child == 0)
		run_child(argv, dir, variable, &old);
	if (child < 0) {
		message(argv[0], "%s", strerror(errno));
		return CMD_FAILED;
	}
	status = wait_for(child, &set);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	return status;
}
