/* SPDX-License-Identifier: MIT */
/* Names and values as text, and what a key may look like. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stdbool.h>
#include <stdio.h>

#include "kvcore/kv_types.h"

enum text_style {
	TEXT_RAW,	/* as it is */
	TEXT_PRINTABLE, /* what the locale cannot print, and the backslash, as \xNN */
	TEXT_ESCAPED,	/* everything outside printable ASCII, and the backslash, as \xNN */
};

/* Errors are found by ferror(). */
void text_write(FILE *to, struct kv_slice s, enum text_style style);

/* How names are written, by option: raw into files and pipes, printable to a terminal. */
struct text_names {
	enum text_style style;
	char end; /* after each */
};
void text_names_default(struct text_names *out);
/* -b or -0; the later one counts. */
void text_names_option(struct text_names *names, int opt);

/* With a unit for people: "3.4 MiB". */
void text_size(char out[16], uint64_t bytes);
/* With quotes; bytes that are not UTF-8 become the characters of their numbers. */
void text_json(FILE *to, const char *s);

/* Whether it is components of names with slashes between, as a key is. */
bool text_is_path(const char *path);
/*
 * The key without its leading slash. NULL after a message that says why it cannot be one. Not
 * before this is a key used: through a mount, ".." would lead elsewhere.
 */
const char *text_key(const char *word) KV_MUST_CHECK;
/* The same for a directory: slashes at the end are taken off, and nothing is the root. Freed by the
 * caller. */
char *text_dir(const char *word) KV_MUST_CHECK;

/* Two lower-case digits a byte. */
void text_hex(FILE *to, const uint8_t *bytes, size_t len);

#endif
