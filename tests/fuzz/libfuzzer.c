/* SPDX-License-Identifier: MIT */
/* Hands a target to libFuzzer (https://llvm.org/docs/LibFuzzer.html). */
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	fuzz_one(data, len);
	return 0;
}
