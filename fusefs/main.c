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

/* What glibc may keep of freed memory; else up to twice the largest block it ever saw freed. */
#define TRIM_THRESHOLD (1 << 20)

int main(int argc, char **argv)
{
	struct mount_options opt;
	struct log log;

	(void)mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD); /* it is only a wish */
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
