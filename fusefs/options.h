/* SPDX-License-Identifier: MIT */
/* The command line of mount.kvfs: arguments of util-linux's helpers and mount options. */
#ifndef FUSEFS_OPTIONS_H
#define FUSEFS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "fusefs/log.h"
#include "fusefs/model/kvfs_history.h"

#define OPTIONS_THREADS_MAX	64
#define OPTIONS_THREADS_DEFAULT 16
#define OPTIONS_COMMIT_MAX_S	300
#define OPTIONS_EXPIRE_MAX_S	(365 * 24 * 3600)

/* A switch that the user may leave alone, which a remount has to know. */
enum options_switch { OPTIONS_UNSAID = 0, OPTIONS_OFF, OPTIONS_ON };

enum options_atime {
	OPTIONS_ATIME_UNSAID = 0,
	OPTIONS_RELATIME,
	OPTIONS_STRICTATIME,
	OPTIONS_NOATIME,
};

/* Inode numbers in snapshots: those of the live files, or others. */
enum options_ino { OPTIONS_INO_ORIGINAL = 0, OPTIONS_INO_UNIQUE };

/* What is one transaction: a write, or all between an open and its close. */
enum options_txn { OPTIONS_TXN_WRITE = 0, OPTIONS_TXN_CLOSE, OPTIONS_TXN_DIRECTORY };

struct mount_options {
	const char *volume; /* borrowed from argv */
	const char *dir;    /* borrowed from argv */
	char *command_line; /* argv's own memory, which is what ps shows of a process */
	size_t command_line_len;
	bool foreground;
	bool verbose;
	bool sloppy; /* unknown mount options are ignored */
	bool help, version;

	int remount; /* these are enum options_switch */
	int readonly;
	int nosuid, nodev, noexec;
	int nodiratime;
	int allow_other;
	int default_permissions;
	int sync, lazytime;
	int writeback;
	int noacl, noxattr;
	int confine; /* OPTIONS_OFF: rights are kept, and no call is forbidden */
	int debug;
	int atime; /* enum options_atime */

	int snapshot_ino; /* enum options_ino */
	int txn;	  /* enum options_txn */

	bool keep_said; /* some keep_* was given */
	struct kvfs_keep keep;
	/* Of a snapshot to be mounted in place of the live tree; "": none. */
	char snapshot[KV_SNAPSHOT_NAME_MAX + 1];
	unsigned commit_s;     /* 0: the engine's default */
	unsigned threads;      /* 0: OPTIONS_THREADS_DEFAULT */
	unsigned history_s;    /* how long it is kept; 0: only while it is read */
	unsigned txn_expire_s; /* of a transaction that nobody uses; 0: never */
	size_t cache_bytes;    /* 0: the engine's default */
};

/*
 * Reads the command line. One line is logged for what is wrong with it.
 * Return: 0 or -EINVAL.
 */
int options_parse(int argc, char **argv, struct log *log, struct mount_options *out) KV_MUST_CHECK;
/* Whether the kernel is to check modes and owners: not by default if it is of no use, see
 * options.c. */
bool options_kernel_checks(const struct mount_options *opt);
/* Help for -h, on standard output. */
void options_print_help(void);

#endif
