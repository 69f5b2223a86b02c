/* SPDX-License-Identifier: MIT */
/*
 * A scrub of the mounted volume in a thread of its own, for a conversation of the kvfs command. It
 * keeps to a rate, and ends by itself when nobody asks for its answer any more.
 *
 * Thread safety: one thread per object.
 */
#ifndef FUSEFS_SCRUB_H
#define FUSEFS_SCRUB_H

#include "fusefs/op.h"

struct scrub;

/*
 * @rate:  bytes a second, 0: as fast as it goes
 * @after: where an earlier one ended, or 0
 */
int scrub_start(struct kvfsd *d, uint64_t rate, uint64_t after, struct scrub **out) KV_MUST_CHECK;
/* Stops it, within one MiB of its work. NULL is allowed. */
void scrub_stop(struct scrub *s);
/*
 * Up to @len bytes of the answer, lines as model/channel_format.h has them. Waits a while for a
 * finding, and says how far it is if there is none. Return: the number of bytes; 0: the end.
 */
size_t scrub_read(struct scrub *s, void *to, size_t len);

#endif
