/* SPDX-License-Identifier: MIT */
/*
 * Names are bytes. They go unchanged into files and pipes, as programs want
 * them; on a terminal, what it could not show or might obey is written \xNN.
 */
#include "fusefs/cli/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>
#include <wctype.h>

#include "fusefs/cli/message.h"
#include "fusefs/model/kvfs.h"

/* Length of the character at @s if the locale can print it, else 0. */
static size_t printable(struct kv_slice s)
{
	mbstate_t state = {0};
	wchar_t c;
	size_t len;

	if (*s.data < 0x80)
		return isprint(*s.data) && *s.data != '\\';
	len = mbrtowc(&c, (const char *)s.data, s.len, &state);
	return len && len <= s.len && iswprint((wint_t)c) ? len : 0;
}

void text_write(FILE *to, struct kv_slice s, enum text_style style)
{
	if (style == TEXT_RAW) {
		(void)fwrite(s.data, 1, s.len, to);
		return;
	}
	while (s.len) {
		size_t len = style == TEXT_ESCAPED && *s.data >= 0x80 ? 0 : printable(s);

		if (len)
			(void)fwrite(s.data, 1, len, to);
		else
			fprintf(to, "\\x%02x", *s.data);
		len += !len;
		s = kv_slice_of(s.data + len, s.len - len);
	}
}

void text_names_default(struct text_names *out)
{
	out->style = isatty(1) ? TEXT_PRINTABLE : TEXT_RAW;
	out->end = '\n';
}

void text_names_option(struct text_names *names, int opt)
{
	names->style = opt == '0' ? TEXT_RAW : TEXT_ESCAPED;
	names->end = opt == '0' ? '\0' : '\n';
}

void text_size(char out[16], uint64_t bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes / 1024;
	size_t unit = 0;

	if (bytes < 1024) {
		(void)snprintf(out, 16, "%" PRIu64 " B", bytes);
		return;
	}
	for (; value >= 1023.95 && unit < 5; unit++)
		value /= 1024;
	(void)snprintf(out, 16, "%.1f %s", value, units[unit]);
}

/* Length of the UTF-8 sequence at @s, 0 if it is none. */
static size_t utf8_len(const unsigned char *s)
{
	size_t len = *s < 0x80 ? 1 : *s >= 0xc2 && *s < 0xe0 ? 2 : (*s & 0xf0) == 0xe0 ? 3 : 4;

	if (*s > 0xf4 || (*s >= 0x80 && *s < 0xc2))
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	/* Overlong, a surrogate, or beyond the last character. */
	if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] >= 0xa0) ||
	    (*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] >= 0x90))
		return 0;
	return len;
}

void text_json(FILE *to, const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	fputc('"', to);
	while (*p) {
		size_t len = utf8_len(p);

		if (*p == '"' || *p == '\\')
			fprintf(to, "\\%c", *p);
		else if (!len || *p < 0x20 || *p == 0x7f)
			fprintf(to, "\\u%04x", *p);
		else
			(void)fwrite(p, 1, len, to);
		p += len ? len : 1;
	}
	fputc('"', to);
}

/* NULL, or what is wrong with a path of components. */
static const char *wrong_with_path(const char *path)
{
	for (const char *slash = path; slash; path = slash + 1) {
		size_t len;

		slash = strchr(path, '/');
		len = slash ? (size_t)(slash - path) : strlen(path);
		if (!len)
			return "a part of it, between slashes, is empty";
		if (len > KVFS_NAME_MAX)
			return "a part of it, between slashes, has more than 255 bytes";
		if ((len == 1 || len == 2) && !strncmp(path, "..", len))
			return "a part of it is \".\" or \"..\"";
		if (!slash)
			break;
	}
	return NULL;
}

bool text_is_path(const char *path)
{
	return !wrong_with_path(path);
}

const char *text_key(const char *word)
{
	const char *key = word[0] == '/' ? word + 1 : word;
	const char *wrong = wrong_with_path(key);

	if (!wrong)
		return key;
	message(word, "not a key: %s", wrong);
	return NULL;
}

char *text_dir(const char *word)
{
	const char *wrong = NULL;
	size_t len;
	char *dir;

	while (*word == '/')
		word++;
	len = strlen(word);
	while (len && word[len - 1] == '/')
		len--;
	dir = strndup(word, len);
	if (!dir)
		message(NULL, "%s", strerror(ENOMEM));
	else if (len)
		wrong = wrong_with_path(dir);
	if (wrong) {
		message(word, "not a path: %s", wrong);
		free(dir);
		return NULL;
	}
	return dir;
}

void text_hex(FILE *to, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		fprintf(to, "%02x", bytes[i]);
}
