/* SPDX-License-Identifier: MIT */
/*
 * kvfs put: one key, at one instant, durable when the command ends. A value
 * may begin with a dash, so options are looked for before the first word only.
 */
#include <stdio.h>
#include <string.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/io.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/mounted.h"
#include "fusefs/cli/target.h"
#include "fusefs/cli/text.h"

const char cmd_put_help[] =
	"usage: kvfs put TARGET KEY [VALUE]\n"
	"\n"
	"Set KEY to VALUE; without one, or if it is -, to what standard input holds.\n"
	"Missing directories are made. The value is replaced at one instant and is\n"
	"durable when the command ends. VALUE is taken as it is, without a newline.\n";

static int put_volume(struct target *t, const char *key, const struct kv_slice *value)
{
	struct kv_buf input = {0};
	int err = 0;

	if (!value)
		err = io_read_all(0, KV_VALUE_MAX, &input);
	if (!err)
		err = kvfs_key_put(t->fs, kv_slice_of(key, strlen(key)),
				   value ? *value : kv_buf_slice(&input), &t->owner);
	kv_buf_free(&input);
	return err;
}

int cmd_put(int argc, char **argv)
{
	struct kv_slice value, *given = NULL;
	struct target t;
	const char *key;
	int go = cmd_only_help(argc, argv, "+:h", cmd_put_help);
	int err;

	if (go != CMD_GO_ON)
		return go;
	if (!cmd_check_words(argc, argv, 2, 3))
		return CMD_USAGE;
	key = text_key(argv[optind + 1]);
	if (argc - optind == 3 && strcmp(argv[optind + 2], "-") != 0) {
		value = kv_slice_of(argv[optind + 2], strlen(argv[optind + 2]));
		given = &value;
	}
	if (!key || target_open(argv[optind], TARGET_WRITE, &t))
		return CMD_FAILED;
	message_catch_signals();
	err = t.mounted ? mounted_put(&t, key, given, 0) : put_volume(&t, key, given);
	if (err)
		message_about_key(t.name, key, err);
	return target_close(&t) || err ? CMD_FAILED : CMD_OK;
}
