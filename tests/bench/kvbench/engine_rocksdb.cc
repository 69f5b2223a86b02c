/* SPDX-License-Identifier: MIT */
/*
 * RocksDB: values are read into a PinnableSlice, so without a copy. The
 * transactional database is used only where a workload asks for transactions,
 * because it makes plain writes dearer.
 */
#include "tests/bench/kvbench/engine.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/transaction_db.h>
#include <rocksdb/version.h>

namespace
{

struct RocksDb {
	std::unique_ptr<rocksdb::DB> db;
	rocksdb::TransactionDB *txn_db = nullptr; /* the same object, if opened as one */
	rocksdb::WriteOptions write;
};

struct Session {
	RocksDb *db;
	rocksdb::PinnableSlice value;
	rocksdb::WriteBatch batch;
	rocksdb::Transaction *txn = nullptr;
	std::string copy;
};

rocksdb::Slice slice(struct bytes b)
{
	return rocksdb::Slice(reinterpret_cast<const char *>(b.data), b.len);
}

int failed(const char *what, const rocksdb::Status &status)
{
	std::fprintf(stderr, "rocksdb: %s: %s\n", what, status.ToString().c_str());
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
		      "%d.%d.%d; block cache=%zu write_buffer_size=%zu, Bloom 10 (whole table), "
		      "Snappy, direct I/O=%d, sync=%d%s",
		      ROCKSDB_MAJOR, ROCKSDB_MINOR, ROCKSDB_PATCH, cache_share(s),
		      s->memtable_bytes, s->direct_io, s->sync,
		      s->transactions ? ", TransactionDB (pessimistic)" : "");
}

rocksdb::Options make_options(const struct engine_settings *s)
{
	rocksdb::Options options;
	rocksdb::BlockBasedTableOptions table;

	table.block_cache = rocksdb::NewLRUCache(cache_share(s));
	table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10, false));
	options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
	options.create_if_missing = true;
	options.write_buffer_size = s->memtable_bytes;
	options.compression = rocksdb::kSnappyCompression;
	options.level_compaction_dynamic_level_bytes = true;
	options.use_direct_reads = s->direct_io;
	options.use_direct_io_for_flush_and_compaction = s->direct_io;
	options.IncreaseParallelism(2);
	return options;
}

int open_db(const struct engine_settings *s, void **out)
{
	auto db = std::make_unique<RocksDb>();
	rocksdb::Options options = make_options(s);
	rocksdb::Status status;

	if (s->transactions) {
		status = rocksdb::TransactionDB::Open(options, rocksdb::TransactionDBOptions(),
						      s->dir, &db->txn_db);
		db->db.reset(db->txn_db);
	} else {
		rocksdb::DB *handle = nullptr;

		status = rocksdb::DB::Open(options, s->dir, &handle);
		db->db.reset(handle);
	}
	if (!status.ok())
		return failed("open", status);
	db->write.sync = s->sync;
	*out = db.release();
	return 0;
}

int close_db(void *handle)
{
	auto *db = static_cast<RocksDb *>(handle);
	rocksdb::Status status = db->db->Close();

	delete db;
	return status.ok() ? 0 : failed("close", status);
}

int settle(void *handle)
{
	rocksdb::CompactRangeOptions options;
	rocksdb::Status status =
		static_cast<RocksDb *>(handle)->db->CompactRange(options, nullptr, nullptr);

	return status.ok() ? 0 : failed("compact", status);
}

int session_open(void *handle, void **out)
{
	auto session = std::make_unique<Session>();

	session->db = static_cast<RocksDb *>(handle);
	*out = session.release();
	return 0;
}

void session_close(void *handle)
{
	auto *s = static_cast<Session *>(handle);

	delete s->txn;
	delete s;
}

int put(void *handle, struct bytes key, struct bytes value)
{
	auto *s = static_cast<Session *>(handle);
	rocksdb::Status status = s->db->db->Put(s->db->write, slice(key), slice(value));

	return status.ok() ? 0 : failed("put", status);
}

int batch(void *handle, const struct pair *pairs, size_t count)
{
	auto *s = static_cast<Session *>(handle);

	s->batch.Clear();
	for (size_t i = 0; i < count; i++)
		s->batch.Put(slice(pairs[i].key), slice(pairs[i].value));
	rocksdb::Status status = s->db->db->Write(s->db->write, &s->batch);
	return status.ok() ? 0 : failed("batch", status);
}

int get(void *handle, struct bytes key, struct room *value)
{
	auto *s = static_cast<Session *>(handle);

	s->value.Reset();
	rocksdb::Status status = s->db->db->Get(
		rocksdb::ReadOptions(), s->db->db->DefaultColumnFamily(), slice(key), &s->value);
	if (status.IsNotFound())
		return ENGINE_ABSENT;
	if (!status.ok())
		return failed("get", status);
	value->data = reinterpret_cast<uint8_t *>(const_cast<char *>(s->value.data()));
	value->len = s->value.size();
	return 0;
}

int scan(void *handle, struct bytes from, size_t count, uint64_t *seen, uint64_t *bytes)
{
	auto *s = static_cast<Session *>(handle);
	std::unique_ptr<rocksdb::Iterator> it(s->db->db->NewIterator(rocksdb::ReadOptions()));
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

rocksdb::Status add_one(Session *s, struct bytes key)
{
	uint64_t counter;
	rocksdb::Status status = s->txn->GetForUpdate(rocksdb::ReadOptions(), slice(key), &s->copy);

	if (!status.ok())
		return status;
	std::memcpy(&counter, s->copy.data(), sizeof(counter));
	counter++;
	std::memcpy(&s->copy[0], &counter, sizeof(counter));
	return s->txn->Put(slice(key), s->copy);
}

int rmw(void *handle, struct bytes key, struct room *value)
{
	auto *s = static_cast<Session *>(handle);
	rocksdb::Status status;

	(void)value;
	do {
		s->txn = s->db->txn_db->BeginTransaction(s->db->write,
							 rocksdb::TransactionOptions(), s->txn);
		status = add_one(s, key);
		if (status.ok())
			status = s->txn->Commit();
		else
			(void)s->txn->Rollback();
	} while (status.IsBusy() || status.IsTimedOut() || status.IsTryAgain());
	return status.ok() ? 0 : failed("rmw", status);
}

struct engine make()
{
	struct engine e = {};

	e.name = "rocksdb";
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
	e.rmw = rmw;
	return e;
}

} // namespace

const struct engine engine_rocksdb = make();
