/* SPDX-License-Identifier: MIT */
/*
 * Fuzz targets. Each fuzz_X.c defines fuzz_one(); driver.c runs it over a corpus and over
 * mutations of it (any compiler), libfuzzer.c hands it to libFuzzer (-DKVFS_FUZZER=ON, clang).
 *
 * Checksums would keep a fuzzer out, so every digest is the same constant in these programs
 * (trust.c, by the linker's --wrap): whatever the fuzzer makes of a volume is a volume
 * whose checksums are right. A target fails by crashing, by a sanitizer, by FUZZ_CHECK, or by
 * taking longer than its time.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* One run. The bytes stand at the end of a heap block of their own. */
void fuzz_one(const uint8_t *data, size_t len);
/* Inputs to begin with, apart from those in the tree; returns the number of bytes, 0: no more. */
size_t fuzz_seed(unsigned n, uint8_t *out, size_t cap);

#define FUZZ_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#endif
