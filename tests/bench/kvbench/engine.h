/* SPDX-License-Identifier: MIT */
/*
 * What the benchmark asks of an engine. An adapter is one file that fills a
 * struct engine; everything else of the program knows engines only through it.
 *
 * Functions return 0, ENGINE_ABSENT, or a negative number after printing the
 * engine's own message. A session belongs to one thread; a database to all.
 */
#ifndef KVBENCH_ENGINE_H
#define KVBENCH_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ENGINE_ABSENT 1

struct bytes {
	const uint8_t *data;
	size_t len;
};

/* Memory that grows and is reused. An engine that has the bytes in a buffer of its session lends
 * it instead: then cap is 0. */
struct room {
	uint8_t *data;
	size_t len;
	size_t cap;
};

struct pair {
	struct bytes key;
	struct bytes value;
};

/* The same for every engine of a run. */
struct engine_settings {
	const char *dir;       /* exists; the database lives in it */
	size_t cache_bytes;    /* for pages and memtables together */
	size_t memtable_bytes; /* where there is such a thing */
	uint64_t data_bytes;   /* expected, for engines that reserve an address range */
	bool sync;	       /* a commit returns when it is durable against power loss */
	bool transactions;     /* rmw() will be called */
	bool direct_io;	       /* bypass the page cache of the kernel, where the engine can */
};

struct engine {
	const char *name;
	/* One line for the report: version and what was set. */
	void (*describe)(const struct engine_settings *s, char *out, size_t out_len);
	int (*open)(const struct engine_settings *s, void **db);
	int (*close)(void *db);
	/* Make tables of everything and let the background work come to rest; NULL: nothing to do.
	 */
	int (*settle)(void *db);
	/* Preallocated whatever the data; NULL: 0. */
	uint64_t (*fixed_bytes)(void *db);
	int (*session_open)(void *db, void **session);
	void (*session_close)(void *session);
	int (*put)(void *session, struct bytes key, struct bytes value);
	/* All or nothing; NULL: the engine has no such thing. */
	int (*batch)(void *session, const struct pair *pairs, size_t count);
	int (*get)(void *session, struct bytes key, struct room *value);
	/* Visit up to @count entries from the first key >= @from; adds up the bytes it saw. */
	int (*scan)(void *session, struct bytes from, size_t count, uint64_t *seen,
		    uint64_t *bytes);
	/* One transaction that reads a key, adds 1 to the first 8 bytes and writes it; tries again
	 * until it committed. NULL: no transactions. */
	int (*rmw)(void *session, struct bytes key, struct room *value);
};

/* Copy into a room; false: no memory. */
bool room_set(struct room *room, const void *data, size_t len);

/* The adapters; kvbench.c has the list of those that were compiled. */
extern const struct engine engine_kvcore;
extern const struct engine engine_leveldb;
extern const struct engine engine_rocksdb;
extern const struct engine engine_lmdb;
extern const struct engine engine_sqlite;
extern const struct engine engine_bdb;
extern const struct engine engine_wiredtiger;
extern const struct engine engine_bare;

#ifdef __cplusplus
}
#endif
#endif
