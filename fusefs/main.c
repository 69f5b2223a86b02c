/* SPDX-License-Identifier: MIT */
/*
 * mount.kvfs: mounts a kvfs volume. mount(8) calls it for the types kvfs and
 * fuse.kvfs, with the arguments of its helpers; it works as well by hand.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "fusefs/mount.h"
#include "kvcore/kvcore.h"

/*
 * What glibc may keep of freed memory in each of its arenas; else up to twice the largest block it
 * ever saw freed. As soon as one of these is set it no longer adapts the size from which a block is
 * a mapping of its own, and at its 128 KiB each compression of a chunk and each large read or write
 * would map memory, touch it for the first time, and unmap it on all processors.
 */
#define TRIM_THRESHOLD (4 << 20)
#define MMAP_THRESHOLD (2 << 20)
#define ARENAS	       4

int main(int argc, char **argv)
{
	struct mount_options opt;
	struct log log;

	(void)mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD); /* these are only wishes */
	(void)mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
	(void)mallopt(M_ARENA_MAX, ARENAS);
	log_init(&log, KV_LOG_WARN);
	if (options_parse(argc, argv, &log, &opt))
		return MOUNT_USAGE;
	if (opt.help) {
		options_print_help();
		return MOUNT_OK;
	}
	if (opt.version) {
		(void)printf("mount.kvfs %s\n", KVCORE_VERSION);
		return MOUNT_OK;
	}
	if (opt.verbose)
		log_init(&log, KV_LOG_INFO);
	if (opt.debug == OPTIONS_ON)
		log_init(&log, KV_LOG_DEBUG);
	return (int)(opt.remount == OPTIONS_ON ? mount_remount(&opt, &log) : mount_run(&opt, &log));
}
