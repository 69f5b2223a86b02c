/* SPDX-License-Identifier: MIT */
/*
 * What the kvfs command and the daemon of a mount say to each other, and nobody else: an
 * ioctl(2), since FUSE carries no other request that has arguments and an answer. It
 * stands here because both are above libkvfs and know nothing of each other.
 */
#ifndef KVFS_CHANNEL_FORMAT_H
#define KVFS_CHANNEL_FORMAT_H

#include <linux/ioctl.h>
#include <stdint.h>

#include "kvcore/base/bytes.h"

/*
 * A conversation with the daemon over the file .kvfs/channel, each lookup of which begins one. A
 * request is words with a NUL after each, put piece by piece and then run; its answer is got piece
 * by piece. Root or the daemon's user; the last request also who began the transaction. What the
 * request itself says is in @status (0 or a negative code of libkvfs); the ioctl fails only if it
 * could not be asked at all.
 *
 *   "clone" SNAPSHOT FROM TO kvfs_clone(), an empty SNAPSHOT is now; the answer is empty
 *   "diff" OLD NEW BELOW     kvfs_diff(), an empty NEW is now; the answer is changes: kind (one
 *                            byte), length of path and of from (le32), path, from
 *   "receive" DIR            kvfs_receive_open(); what is put then is the stream, and another run
 *                            is kvfs_receive_finish(): the answer is the hash, a byte (1: it was
 *                            received before), and the name of the snapshot
 *   "token"                  kvfs_receive_token(); the answer is the token
 *   "discard"                kvfs_receive_discard(); the answer is empty
 *   "restore" NAME           kvfs_snapshot_restore(); the answer is empty
 *   "scrub" RATE AFTER       kv_scrub(), RATE in bytes a second, 0: as fast as it goes; the answer
 *                            is lines: "at DONE TOTAL AFTER", "found NUMBER TEXT", and last
 *                            "end STATUS AFTER PROBLEMS TABLES PAGES ENTRIES VALUES"
 *   "send" FROM NAME TOKEN   kvfs_send_open(), empty FROM and TOKEN are none; the answer is the
 *                            stream
 *   "hash" NAME              kvfs_snapshot_hash(); the answer is the hash
 *   "snapshot" NAME OF       kvfs_snapshot_create_of(); the answer is empty
 *   "txn" NAME BELOW         kvfs_draft_diff(); the answer is as that of "diff"
 *   "watch" FROM BELOW       kvfs_watch_open(), FROM in decimal; the answer is events, struct
 *                            kvfs_channel_event; where it ends, more may come later
 */
enum kvfs_channel_op {
	KVFS_CHANNEL_PUT, /* @data is the next piece */
	KVFS_CHANNEL_RUN, /* the request is complete */
	KVFS_CHANNEL_GET, /* @data becomes the next piece of the answer; @len 0: it has ended */
	KVFS_CHANNEL_END, /* no more is wanted; what the conversation holds is released */
};
#define KVFS_CHANNEL_PIECE 16000U
struct kvfs_channel {
	uint32_t op;
	int32_t status;
	uint32_t len;
	uint8_t data[KVFS_CHANNEL_PIECE];
};
struct kvfs_channel_event { /* path and from follow */
	struct le64 commit;
	uint8_t kind; /* enum kvfs_event_kind */
	struct le32 path_len, from_len;
};
#define KVFS_IOC_CHANNEL _IOWR('k', 3, struct kvfs_channel)
/*
 * Of the root directory of a transaction (.kvfs/txn/NAME): commit it. Its owner or root; EAGAIN: a
 * conflict, of which .kvfs/conflicts tells.
 */
#define KVFS_IOC_COMMIT _IO('k', 4)

#endif
