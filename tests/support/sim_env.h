/* SPDX-License-Identifier: MIT */
/*
 * A simulated host: volumes in memory, power loss, I/O errors, bit rot.
 *
 * Volumes are found by name and outlive their handles, so a test opens, crashes
 * and opens again. For each 512-byte sector the simulation knows what the disk
 * holds and what was written since; a crash decides sector by sector which of
 * the two (or garbage) is left. All choices come from the seed.
 *
 * What is modelled: a sync covers writes that returned before it began; a write
 * that fails may have reached any of its sectors; after a failed sync some of
 * the dirty sectors are durable and the others never will be, although later
 * syncs succeed and cached reads return them, direct reads not (what Linux does); discarded bytes
 * read as zeros or as garbage; a change of size is durable at the next sync. Creating and removing
 * a name is durable at once. Direct transfers are checked for alignment.
 *
 * Thread safety: all functions from any thread, except sim_env_free().
 */
#ifndef TESTS_SUPPORT_SIM_ENV_H
#define TESTS_SUPPORT_SIM_ENV_H

#include "kvcore/os/os_env.h"

#define SIM_SECTOR 512U

struct sim_env;

/* Aborts the test when memory is short. */
struct sim_env *sim_env_new(uint64_t seed);
/*
 * The same volumes with the same unsynced writes, no handle open, no fault, the clock
 * as it was. Crashing the copy shows what a crash at this moment would leave.
 */
struct sim_env *sim_env_clone(struct sim_env *e, uint64_t seed);
/* Handles that are still open are freed with it. NULL is allowed. */
void sim_env_free(struct sim_env *e);
/*
 * More than 0 while the calling thread is inside the simulated host: memory that it takes there
 * is the host's, and who lets allocations fail (fault_points.h) leaves it alone.
 */
extern _Thread_local unsigned sim_env_inside;
/* For kv_options.env and the like. */
struct os_env *sim_env_os(struct sim_env *e);

/* ---- crashes ----------------------------------------------------------- */

enum sim_fate { SIM_KEEP, SIM_DROP, SIM_GARBAGE };

enum sim_crash {
	SIM_CRASH_KILL,	   /* the process dies: all that was written is there, and still unsynced */
	SIM_CRASH_DROP,	   /* power loss, nothing unsynced arrived */
	SIM_CRASH_MIX,	   /* each unsynced sector arrived or not; how many, differs by crash */
	SIM_CRASH_GARBAGE, /* as MIX, and some are torn: garbage */
};

/*
 * Every handle becomes dead: its I/O fails with -EIO, closing it still frees it, its lock is
 * gone. Then the volumes hold what the crash left. Faults are forgotten.
 */
void sim_env_crash(struct sim_env *e, enum sim_crash mode);
/* As above with the fate of each unsynced sector chosen by the caller, in rising order. */
void sim_env_crash_by(struct sim_env *e,
		      enum sim_fate (*choose)(void *ctx, const char *name, uint64_t sector),
		      void *ctx);
/* Number of unsynced sectors of a volume. */
uint64_t sim_env_unsynced(struct sim_env *e, const char *name);

/* ---- faults ------------------------------------------------------------ */

enum sim_op {
	SIM_OP_READ,
	SIM_OP_WRITE,
	SIM_OP_SYNC,
	SIM_OP_GROW,
	SIM_OP_OPEN,
	SIM_OP_CHANGE,	     /* any of write, sync, grow, shrink, discard */
	SIM_OP_WRITE_DIRECT, /* a write past the host's cache: of tables */
	SIM_OP_COUNT
};

/*
 * Let the @nth operation of this kind from now (1 is the next) fail with @err, a negative
 * errno, and if @for_good all later ones too. With @err 0 the operation does nothing
 * and reports success: a lost write, a sync that lies. Replaces the kind's former fault; @nth 0
 * removes it.
 */
void sim_env_fail(struct sim_env *e, enum sim_op op, uint64_t nth, bool for_good, int err);
/*
 * Power goes off during the @nth change from now: it is done in part, and all I/O from then
 * on fails with -EIO until sim_env_crash().
 */
void sim_env_cut(struct sim_env *e, uint64_t nth);
/* Forget all faults and a cut that has not been reached. */
void sim_env_heal(struct sim_env *e);
/* Operations of a kind so far. */
uint64_t sim_env_calls(struct sim_env *e, enum sim_op op);
/* Bytes written so far. */
uint64_t sim_env_bytes_written(struct sim_env *e);
/* All files together may not be longer than this: -ENOSPC. 0: no limit. */
void sim_env_limit(struct sim_env *e, uint64_t bytes);
/* Every sync takes this long, with other I/O going on meanwhile; 0 at first. */
void sim_env_sync_latency(struct sim_env *e, unsigned us);

/* ---- content ----------------------------------------------------------- */

/* A block device of fixed size. */
void sim_env_add_device(struct sim_env *e, const char *name, uint64_t bytes);
/* 0 if there is no such volume. */
uint64_t sim_env_size(struct sim_env *e, const char *name);
/* Look at and change bytes behind the back of all handles; a change is durable. In bounds. */
void sim_env_peek(struct sim_env *e, const char *name, uint64_t off, void *buf, size_t len);
void sim_env_poke(struct sim_env *e, const char *name, uint64_t off, const void *buf, size_t len);
void sim_env_flip(struct sim_env *e, const char *name, uint64_t off, unsigned bit);

/* ---- clock ------------------------------------------------------------- */

/* From now on both clocks stand still and move by sim_env_advance() only. Timed waits of
 * os_thread.h are not affected. */
void sim_env_stop_clock(struct sim_env *e);
void sim_env_advance(struct sim_env *e, uint64_t ns);

#endif
