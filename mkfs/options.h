/* SPDX-License-Identifier: MIT */
/* The command line of mkfs.kvfs. */
#ifndef MKFS_OPTIONS_H
#define MKFS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "kvcore/kvcore.h"

struct options {
	const char *volume;
	const char *label;	   /* NULL: none */
	uint8_t uuid[KV_UUID_LEN]; /* all zero: random */
	uint64_t size_bytes;	   /* 0: not given */
	uint64_t log_size_bytes;   /* 0: not given */
	const char *checksum;	   /* NULL: the default */
	const char *compress;	   /* NULL: the default */
	const char *from;	   /* directory to fill the volume from; NULL: none */
	bool force;
	bool quiet;
};

/*
 * Return: 0; 1: everything was said and done (--help, --version); -1: the line is
 * wrong and a message is on stderr.
 */
int options_parse(int argc, char **argv, struct options *out);

/* "64M" in bytes; K, M, G, T are powers of 1024. False if malformed, zero or beyond 2^63. */
bool options_size(const char *text, uint64_t *out);

#endif
