/* SPDX-License-Identifier: MIT */
/*
 * Result codes as text and as errno. The tables are generated from KV_ERRORS,
 * so a code cannot lack either. Host errors use strerrordesc_np(), whose
 * strings are static and untranslated: no buffer, no locale, any thread.
 */
#include <errno.h>
#include <string.h>

#include "kvcore/base/base.h"

struct error_info {
	int host;
	const char *text;
};

static const struct error_info error_infos[] = {
#define ERROR_INFO(name, host, text) {host, text},
	KV_ERRORS(ERROR_INFO)
#undef ERROR_INFO
};

/* NULL if @err is not one of -KV_E_*. */
static const struct error_info *error_find(int err)
{
	if (err > -KV_ERROR_BASE || err <= -(int)KV_E_END)
		return NULL;
	return &error_infos[-err - KV_ERROR_BASE];
}

const char *kv_strerror(int err)
{
	const struct error_info *info = error_find(err);
	const char *text;

	if (!err)
		return "success";
	if (info)
		return info->text;
	if (err > 0 || err < -KV_ERROR_BASE)
		return "unknown error";
	text = strerrordesc_np(-err);
	return text ? text : "unknown error";
}

int kv_error_to_errno(int err)
{
	const struct error_info *info = error_find(err);

	if (!err)
		return 0;
	if (info)
		return info->host;
	/* Anything else out of range is a bug somewhere; EIO hides nothing. */
	if (err > 0 || err < -KV_ERROR_BASE || !strerrorname_np(-err))
		return EIO;
	return -err;
}
