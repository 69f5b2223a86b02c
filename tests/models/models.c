/* SPDX-License-Identifier: MIT */
/*
 * Explores all models: the right variant of each must have nothing wrong, and each broken one
 * something.
 */
#include <stdio.h>

#include "kvcore/base/base.h"
#include "tests/models/explore.h"

int main(void)
{
	const struct explore_model *const models[] = {&model_commit, &model_switch, &model_pins,
						      &model_upgrade};
	int failures = 0;

	for (unsigned i = 0; i < KV_ARRAY_COUNT(models); i++)
		failures += explore(models[i]);
	printf("%d of the variants did not end as they should\n", failures);
	return failures ? 1 : 0;
}
