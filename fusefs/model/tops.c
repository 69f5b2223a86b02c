/* SPDX-License-Identifier: MIT */
/* A sorted list without nesting, so that a question is one binary search. */
#include "fusefs/model/tops.h"

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

struct top {
	size_t path, len;
};

void tops_fini(struct tops *t)
{
	kv_buf_free(&t->text);
	kv_buf_free(&t->list);
}

size_t tops_count(const struct tops *t)
{
	return t->list.len / sizeof(struct top);
}

struct kv_slice tops_at(const struct tops *t, size_t i)
{
	const struct top *top = (const struct top *)(const void *)t->list.data + i;

	return kv_slice_of(t->text.data + top->path, top->len);
}

bool tops_contain(const struct tops *t, struct kv_slice path)
{
	size_t lo = 0, hi = tops_count(t);
	struct kv_slice top;

	/* The last one that is not behind the path. */
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (slice_compare(tops_at(t, mid), path) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return false;
	top = tops_at(t, lo - 1);
	return slice_has_prefix(path, top) && (path.len == top.len || !path.data[top.len]);
}

int tops_add(struct tops *t, struct kv_slice path)
{
	struct top top = {t->text.len, path.len};
	int err;

	if (tops_contain(t, path))
		return 0;
	err = buf_append_slice(&t->text, path);
	return err ? err : buf_append(&t->list, &top, sizeof(top));
}
