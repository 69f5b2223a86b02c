/* SPDX-License-Identifier: MIT */
/*
 * The stream of kvfs send: frames, each with a checksum over itself and the one before, and what
 * they hold. docs/format.md, section 10, is the normative text. Decoding trusts nothing.
 * Thread safety: one thread per structure.
 */
#ifndef KVFS_STREAM_H
#define KVFS_STREAM_H

#include "fusefs/model/inode.h"
#include "kvcore/kv_digest.h"

#define STREAM_VERSION	   1U
#define STREAM_HEADER	   16U /* bytes: magic, version, zero */
#define STREAM_FRAME_HEAD  13U /* bytes: length (le32), number (le64), kind */
#define STREAM_PAYLOAD_MAX (8U * 1024 * 1024)

enum stream_kind {
	STREAM_BEGIN,  /* which states the stream is between */
	STREAM_REMOVE, /* a name of the old state that is not in the new one */
	STREAM_ENTRY,  /* a path of the new state with all attributes of its file */
	STREAM_DATA,   /* a chunk of the file of the last entry */
	STREAM_HOLE,   /* a chunk of it that is not there any more */
	STREAM_LINK,   /* a further name */
	STREAM_END,    /* the root hash of the new state */
	STREAM_KINDS
};

enum stream_origin { STREAM_FRESH, STREAM_OLD_PATH, STREAM_NEW_PATH };
enum stream_body { STREAM_BODY_KEPT, STREAM_BODY_INLINE, STREAM_BODY_CHUNKS };

/* One item; slices borrow. Paths have byte 0 for '/', and are empty for the top directory. */
struct stream_item {
	enum stream_kind kind;
	uint8_t id[KV_DIGEST_LEN];   /* BEGIN: of the stream; END: the root hash */
	uint8_t base[KV_DIGEST_LEN]; /* BEGIN: root hash of the old state */
	bool full;		     /* BEGIN: there is no old state */
	bool gone;		     /* REMOVE: the file has no name left */
	enum stream_origin origin;   /* ENTRY, LINK: whose path @from is */
	enum stream_body body;	     /* ENTRY */
	struct kv_slice path;	     /* REMOVE, ENTRY, LINK; BEGIN: name of the new snapshot */
	struct kv_slice from;	     /* ENTRY, LINK; BEGIN: name of the old snapshot */
	struct kv_slice xattrs;	     /* ENTRY: as roothash_xattrs() has them */
	struct kv_slice bytes;	     /* ENTRY: contents or target; DATA */
	uint64_t chunk;		     /* DATA, HOLE */
	struct inode attr;	     /* ENTRY: the fixed part */
};

/* Append the payload of an item. */
int stream_encode(const struct stream_item *item, struct kv_buf *out) KV_MUST_CHECK;
/* Return: 0, -EPROTO (malformed). */
int stream_decode(uint8_t kind, struct kv_slice payload, struct stream_item *out) KV_MUST_CHECK;

/* The chain of checksums, the same for who writes and who reads. */
struct stream_chain {
	struct kv_digest *digest;
	uint64_t next; /* number of the next frame */
	uint8_t sum[KV_DIGEST_LEN];
};
int stream_chain_init(struct stream_chain *c) KV_MUST_CHECK;
void stream_chain_fini(struct stream_chain *c);
void stream_header(uint8_t out[STREAM_HEADER]);
/* The whole frame of an item is appended to @out, with the next number. */
int stream_put(struct stream_chain *c, const struct stream_item *item, struct kv_buf *out)
	KV_MUST_CHECK;
/*
 * The frame at the beginning of @in. @len: of the whole frame.
 * Return: 0, -EAGAIN (not whole yet), -EBADMSG (its checksum), -EILSEQ (its number), -EPROTO.
 */
int stream_get(struct stream_chain *c, struct kv_slice in, uint8_t *kind, struct kv_slice *payload,
	       size_t *len) KV_MUST_CHECK;
/* -EPROTO (no stream of kvfs), -EPROTONOSUPPORT (another version). */
int stream_check_header(struct kv_slice in) KV_MUST_CHECK;

/* "NUMBER-SUM": after which frame. -EINVAL. */
int stream_token_format(const struct stream_chain *c, struct kv_buf *out) KV_MUST_CHECK;
int stream_token_parse(const char *text, uint64_t *next, uint8_t sum[KV_DIGEST_LEN]) KV_MUST_CHECK;

#endif
