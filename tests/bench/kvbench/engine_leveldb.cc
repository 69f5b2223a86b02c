/* SPDX-License-Identifier: MIT */
/*
 * LevelDB through its C++ interface: the C one copies each value twice, which
 * would be held against the engine. The block cache gets what the two
 * memtables leave of the budget.
 */
#include "tests/bench/kvbench/engine.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/write_batch.h>

namespace
{

struct LevelDb {
	std::unique_ptr<leveldb::Cache> cache;
	std::unique_ptr<const leveldb::FilterPolicy> filter;
	std::unique_ptr<leveldb::DB> db;
	leveldb::WriteOptions write;
};

struct Session {
	LevelDb *db;
	std::string value;
	leveldb::WriteBatch batch;
};

leveldb::Slice slice(struct bytes b)
{
	return leveldb::Slice(reinterpret_cast<const char *>(b.data), b.len);
}

int failed(const char *what, const leveldb::Status &status)
{
	std::fprintf(stderr, "leveldb: %s: %s\n", what, status.ToString().c_str());
	return -1;
}

size_t cache_share(const struct engine_settings *s)
{
	return s->cache_bytes > 4 * s->memtable_bytes ? s->cache_bytes - 2 * s->memtable_bytes
						      : s->cache_bytes / 2;
}

void describe(const struct engine_settings *s, char *out, size_t out_len)
{
	std::snprintf(out, out_len,
		      "%d.%d; block_cache=%zu write_buffer_size=%zu, Bloom 10, Snappy, mmap of "
		      "tables (its default), sync=%d",
		      leveldb::kMajorVersion, leveldb::kMinorVersion, cache_share(s),
		      s->memtable_bytes, s->sync);
}

int open_db(const struct engine_settings *s, void **out)
{
	auto db = std::make_unique<LevelDb>();
	leveldb::Options options;
	leveldb::DB *handle = nullptr;

	db->cache.reset(leveldb::NewLRUCache(cache_share(s)));
	db->filter.reset(leveldb::NewBloomFilterPolicy(10));
	options.create_if_missing = true;
	options.block_cache = db->cache.get();
	options.filter_policy = db->filter.get();
	options.write_buffer_size = s->memtable_bytes;
	options.max_open_files = 4000;
	leveldb::Status status = leveldb::DB::Open(options, s->dir, &handle);
	if (!status.ok())
		return failed("open", status);
	db->db.reset(handle);
	db->write.sync = s->sync;
	*out = db.release();
	return 0;
}

int close_db(void *handle)
{
	auto *db = static_cast<LevelDb *>(handle);

	db->db.reset();
	delete db;
	return 0;
}

int settle(void *handle)
{
	static_cast<LevelDb *>(handle)->db->CompactRange(nullptr, nullptr);
	return 0;
}

int session_open(void *handle, void **out)
{
	auto session = std::make_unique<Session>();

	session->db = static_cast<LevelDb *>(handle);
	*out = session.release();
	return 0;
}

void session_close(void *handle)
{
	delete static_cast<Session *>(handle);
}

int put(void *handle, struct bytes key, struct bytes value)
{
	auto *s = static_cast<Session *>(handle);
	leveldb::Status status = s->db->db->Put(s->db->write, slice(key), slice(value));

	return status.ok() ? 0 : failed("put", status);
}

int batch(void *handle, const struct pair *pairs, size_t count)
{
	auto *s = static_cast<Session *>(handle);

	s->batch.Clear();
	for (size_t i = 0; i < count; i++)
		s->batch.Put(slice(pairs[i].key), slice(pairs[i].value));
	leveldb::Status status = s->db->db->Write(s->db->write, &s->batch);
	return status.ok() ? 0 : failed("batch", status);
}

int get(void *handle, struct bytes key, struct room *value)
{
	auto *s = static_cast<Session *>(handle);
	leveldb::Status status = s->db->db->Get(leveldb::ReadOptions(), slice(key), &s->value);

	if (status.IsNotFound())
		return ENGINE_ABSENT;
	if (!status.ok())
		return failed("get", status);
	value->data = reinterpret_cast<uint8_t *>(&s->value[0]);
	value->len = s->value.size();
	return 0;
}

int scan(void *handle, struct bytes from, size_t count, uint64_t *seen, uint64_t *bytes)
{
	auto *s = static_cast<Session *>(handle);
	std::unique_ptr<leveldb::Iterator> it(s->db->db->NewIterator(leveldb::ReadOptions()));
	size_t n = 0;

	if (from.len)
		it->Seek(slice(from));
	else
		it->SeekToFirst();
	for (; it->Valid() && n < count; it->Next(), n++)
		*bytes += it->key().size() + it->value().size();
	*seen += n;
	return it->status().ok() ? 0 : failed("scan", it->status());
}

struct engine make()
{
	struct engine e = {};

	e.name = "leveldb";
	e.describe = describe;
	e.open = open_db;
	e.close = close_db;
	e.settle = settle;
	e.session_open = session_open;
	e.session_close = session_close;
	e.put = put;
	e.batch = batch;
	e.get = get;
	e.scan = scan;
	return e;
}

} // namespace

const struct engine engine_leveldb = make();
