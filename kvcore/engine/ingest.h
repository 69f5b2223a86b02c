/* SPDX-License-Identifier: MIT */
/*
 * The commit of a transaction that does not fit the log: it enters the database as
 * tables, all at once by one version edit (docs/crash-consistency.md, rule 14).
 */
#ifndef KVCORE_ENGINE_INGEST_H
#define KVCORE_ENGINE_INGEST_H

#include "kvcore/engine/db.h"

/*
 * Visible and durable on return, as one commit with one number. Other commits wait only while
 * the memtable is flushed and the edit is written. The set keeps its references to large values:
 * it drops them when it is freed or cleared, whatever the result.
 * @flags: KV_COMMIT_*
 * @seq:   its number
 * Return: 0, -KV_E_NOSPACE and -ENOMEM (nothing happened), -KV_E_POISONED (nothing happened),
 * -KV_E_UNKNOWN_OUTCOME (writing the manifest failed), errors of reading spilled runs.
 */
int ingest_commit(struct kv_db *db, struct writeset *w, unsigned flags, kv_seq *seq) KV_MUST_CHECK;

/* ---- commit.c ---- */

/*
 * Hold all commits back, with everything committed so far in tables and nothing of the log needed.
 * For a commit that enters as tables; ended by commit_resume() unless it fails.
 * @last_seq: of all commits
 * Return: 0, -ENOMEM, -KV_E_POISONED, -KV_E_NOSPACE.
 */
int commit_pause(struct kv_db *db, kv_seq *last_seq) KV_MUST_CHECK;
/* @seq: what was committed meanwhile, above @last_seq, visible from now on; 0: nothing */
void commit_resume(struct kv_db *db, kv_seq seq);

#endif
