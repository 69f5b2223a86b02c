/* SPDX-License-Identifier: MIT */
/*
 * Prepared transactions (two-phase commit, the participant's side) of one database.
 *
 * Thread safety: any thread.
 */
#ifndef KVCORE_ENGINE_PREPARED_H
#define KVCORE_ENGINE_PREPARED_H

#include "kvcore/engine/db.h"

/*
 * Find the prepared transactions and, unless read-only, take their locks: before the
 * database is handed out. Return: 0, -KV_E_CORRUPT, ...
 */
int prepared_load(struct kv_db *db) KV_MUST_CHECK;
/* Forget them in memory; they stay on the volume. Nobody uses the database any more. */
void prepared_free(struct kv_db *db);

#endif
