/* SPDX-License-Identifier: MIT */
/*
 * kvfs get: the bytes of one key, in pieces, so that a value of any size passes
 * through. The volume is open for reading and locked against writers, so the
 * pieces are of one state; through a mount they are what read(2) gives.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/io.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/mounted.h"
#include "fusefs/cli/target.h"
#include "fusefs/cli/text.h"
#include "fusefs/cli/volume.h"

#define PIECE ((size_t)1024 * 1024)

const char cmd_get_help[] = "usage: kvfs get TARGET KEY\n"
			    "\n"
			    "Write the value of KEY, as it is, to standard output.\n"
			    "Exit status 1: there is no such key.\n";

/* Whether the failure was one of standard output, which is reported as such. */
struct get {
	struct target t;
	const char *key;
	int output_err;
};

static int get_pieces(struct get *g, struct kvfs_node *node, uint64_t size)
{
	struct kv_buf piece = {0};
	int err = 0;

	for (uint64_t off = 0; !err && off < size; off += piece.len) {
		err = kvfs_read(g->t.fs, node, off, PIECE, &piece);
		if (!err && !piece.len)
			err = -KV_E_CORRUPT;
		if (!err)
			g->output_err = err = io_write_all(1, kv_buf_slice(&piece));
	}
	kv_buf_free(&piece);
	return err;
}

static int get_volume(struct get *g)
{
	struct kvfs_node *node;
	struct kvfs_attr attr;
	int err;

	err = volume_lookup(g->t.fs, g->key, &node, &attr);
	if (err)
		return err;
	if ((attr.mode & S_IFMT) == S_IFDIR)
		err = -EISDIR;
	else if ((attr.mode & S_IFMT) != S_IFREG)
		err = -EINVAL;
	else
		err = get_pieces(g, node, attr.size);
	kvfs_node_forget(g->t.fs, node, 1);
	return err;
}

static int get_mounted(const struct get *g)
{
	const char *name;
	int dir = mounted_open_parent(&g->t, g->key, false, &name);
	int fd, err;

	if (dir < 0)
		return dir;
	fd = mounted_open_key(dir, name);
	err = fd < 0 ? fd : io_copy(fd, 1);
	if (fd >= 0)
		(void)close(fd);
	(void)close(dir);
	return err;
}

int cmd_get(int argc, char **argv)
{
	struct get g = {0};
	int go = cmd_only_help(argc, argv, ":h", cmd_get_help);
	int err;

	if (go != CMD_GO_ON)
		return go;
	if (!cmd_check_words(argc, argv, 2, 2))
		return CMD_USAGE;
	g.key = text_key(argv[optind + 1]);
	if (!g.key || target_open(argv[optind], TARGET_READ, &g.t))
		return CMD_FAILED;
	err = g.t.mounted ? get_mounted(&g) : get_volume(&g);
	if (g.output_err)
		message("standard output", "%s", kv_strerror(g.output_err));
	else if (err)
		message_about_key(g.t.name, g.key, err);
	return target_close(&g.t) || err ? CMD_FAILED : CMD_OK;
}
