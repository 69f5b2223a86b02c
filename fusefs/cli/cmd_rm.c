/* SPDX-License-Identifier: MIT */
/*
 * kvfs rm: each key is a transaction of its own, so that a missing one does
 * not keep the others. Directories stay, as they do in the key API.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/mounted.h"
#include "fusefs/cli/target.h"
#include "fusefs/cli/text.h"

const char cmd_rm_help[] = "usage: kvfs rm [-f] TARGET KEY...\n"
			   "\n"
			   "Remove keys. Their directories stay. All that was removed is durably\n"
			   "so when the command ends.\n"
			   "\n"
			   "  -f, --force   a key that is not there is not an error\n"
			   "\n"
			   "Exit status 1: a key was not there, or could not be removed.\n";

static int rm_mounted(const struct target *t, const char *key)
{
	struct stat st;
	const char *name;
	int dir = mounted_open_parent(t, key, false, &name);
	int err;

	if (dir < 0)
		return dir;
	err = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
	if (!err && S_ISDIR(st.st_mode))
		err = -EISDIR;
	else if (!err && !S_ISREG(st.st_mode))
		err = -EINVAL;
	if (!err && unlinkat(dir, name, 0))
		err = -errno;
	(void)close(dir);
	return err;
}

static int rm_key(struct target *t, const char *word, bool force)
{
	const char *key = text_key(word);
	int err;

	if (!key)
		return -EINVAL;
	err = t->mounted ? rm_mounted(t, key)
			 : kvfs_key_delete(t->fs, kv_slice_of(key, strlen(key)));
	if (force && (err == -ENOENT || err == -KV_E_NOTFOUND))
		err = 0;
	if (err)
		message_about_key(t->name, key, err);
	return err;
}

int cmd_rm(int argc, char **argv)
{
	static const struct option longs[] = {
		{"force", no_argument, NULL, 'f'}, {"help", no_argument, NULL, 'h'}, {0}};
	struct target t;
	bool force = false, failed = false;
	int opt;

	while ((opt = cmd_next(argc, argv, ":fh", longs)) != CMD_OPT_END) {
		if (opt == CMD_OPT_HELP) {
			fputs(cmd_rm_help, stdout);
			return CMD_OK;
		}
		if (opt == CMD_OPT_BAD)
			return CMD_USAGE;
		force = true;
	}
	if (!cmd_check_words(argc, argv, 2, 0))
		return CMD_USAGE;
	if (target_open(argv[optind], TARGET_WRITE, &t))
		return CMD_FAILED;
	for (int i = optind + 1; i < argc; i++)
		failed |= rm_key(&t, argv[i], force) != 0;
	if (t.mounted && fsync(t.dir_fd)) {
		message(t.name, "%s", strerror(errno));
		failed = true;
	}
	return target_close(&t) || failed ? CMD_FAILED : CMD_OK;
}
