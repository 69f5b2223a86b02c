#!/bin/bash
# SPDX-License-Identifier: MIT
# What cmake --install puts into a system: everything is in its place, programs in C and C++ are built
# against the installed libraries with pkg-config and run, and the manual pages are sound.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

command -v cmake >/dev/null || skip "needs cmake"
command -v groff >/dev/null || skip "needs groff (tools/packages-test)"
cache=$KVFS_BUILD/CMakeCache.txt
[ -f "$cache" ] || fail "$KVFS_BUILD is not a build directory"
ninja=$(sed -n 's/^CMAKE_MAKE_PROGRAM:[A-Z]*=//p' "$cache")
[ -x "$KVFS_BIN/kvfs" ] || fail "build with $ninja first: $KVFS_BIN/kvfs is missing"
libdir=$(sed -n 's/^CMAKE_INSTALL_LIBDIR:[A-Z]*=//p' "$cache")
version=$(sed -n 's/^CMAKE_PROJECT_VERSION:[A-Z]*=//p' "$cache")
sanitize=$(sed -n 's/^KVFS_SANITIZE:[A-Z]*=//p' "$cache")

check_placement() {
	local file
	for file in bin/kvfs sbin/mkfs.kvfs sbin/fsck.kvfs sbin/mount.kvfs; do
		[ -x "$1/$file" ] || fail "$file is missing"
		"$1/$file" --version | grep -qF "$version" || fail "version of $file"
	done
	[ "$(readlink "$1/sbin/mount.fuse.kvfs")" = mount.kvfs ] || fail "mount.fuse.kvfs"
	for file in include/kvcore/{kv_types,kv_stats,kvcore,kvcore_check}.h include/kvfs/kvfs.h \
		"$libdir"/libkv{core,fs}.so "$libdir"/libkv{core,fs}.so."$version" \
		"$libdir"/pkgconfig/kv{core,fs}.pc share/man/man5/kvfs.5 \
		share/man/man8/{kvfs,mkfs.kvfs,fsck.kvfs,mount.kvfs}.8; do
		[ -s "$1/$file" ] || fail "$file is missing"
	done
	for file in kvfs mkfs.kvfs fsck.kvfs mount.kvfs; do
		[ -s "$1/share/bash-completion/completions/$file" ] || fail "completion of $file"
	done
	bash -n "$1/share/bash-completion/completions/kvfs" || fail "completion"
}

# ---- placement ----
DESTDIR=$tmp/dest cmake --install "$KVFS_BUILD" --prefix /usr >"$tmp/log" || fail "$(cat "$tmp/log")"
check_placement "$tmp/dest/usr"
[ "$(ls "$tmp/dest")" = usr ] || fail "files outside the prefix: $(ls "$tmp/dest")"
prefix=$tmp/prefix
cmake --install "$KVFS_BUILD" --prefix "$prefix" >"$tmp/log" || fail "$(cat "$tmp/log")"
check_placement "$prefix"
grep -rIlF "$KVFS_SRC" "$prefix" && fail "installed text files name the source tree"

# ---- the completion completes ----
completed() {
	bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kvfs; echo "${COMPREPLY[@]}"' \
		bash "$prefix/share/bash-completion/completions/kvfs" "$@"
}
[ "$(completed kvfs sc)" = scan ] || fail "completion of a subcommand: $(completed kvfs sc)"
[ "$(completed kvfs scan --pre)" = --prefix ] || fail "completion of an option"
[ "$(completed kvfs ls "$prefix/sh")" = "$prefix/share" ] || fail "completion of a file"

# ---- manual pages ----
for page in "$prefix"/share/man/man?/*; do
	groff -ww -man -Tutf8 "$page" 2>"$tmp/err" >"$tmp/page" || fail "$page: $(cat "$tmp/err")"
	[ ! -s "$tmp/err" ] || fail "$page: $(cat "$tmp/err")"
	[ "$(wc -l <"$tmp/page")" -gt 30 ] || fail "$page is nearly empty"
	for section in NAME DESCRIPTION "SEE ALSO"; do
		grep -q "^\.SH \"*$section" "$page" || fail "$page has no section $section"
	done
done
# Every reference to a page of ours leads to a page of ours.
grep -hoE '^\.BR kvfs \([0-9]\)|^\.BR (mkfs|fsck|mount)\.kvfs \([0-9]\)' "$prefix"/share/man/man?/* |
	sort -u | tr -d '()' | while read -r _ name section; do
		[ -f "$prefix/share/man/man$section/$name.$section" ] || fail "there is no $name($section)"
	done

# ---- programs against the installed libraries ----
cc=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$cache")
export PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig LD_LIBRARY_PATH=$prefix/$libdir
[ "$(pkg-config --modversion kvcore kvfs | sort -u)" = "$version" ] || fail "version in the .pc files"

cat >"$tmp/engine.c" <<'END'
#include <kvcore/kvcore.h>
#include <kvcore/kvcore_check.h>
#include <stdio.h>
#include <string.h>

static int check(const char *what, int err)
{
	if (err)
		fprintf(stderr, "%s: %s\n", what, kv_strerror(err));
	return err;
}

int main(int argc, char **argv)
{
	struct kv_create_options create = {0};
	struct kv_slice key = kv_slice_of("key", 3), value = kv_slice_of("value", 5);
	struct kv_buf got = {0};
	struct kv_db *db;

	create.log_size_bytes = 1024 * 1024;
	if (argc != 2 || check("create", kv_create(argv[1], &create)) ||
	    check("open", kv_open(argv[1], NULL, &db)) ||
	    check("put", kv_put(db, 1, key, value, KV_COMMIT_SYNC)) ||
	    check("get", kv_get(db, 1, key, &got)))
		return 1;
	if (got.len != 5 || memcmp(got.data, "value", 5) != 0)
		return 2;
	kv_buf_free(&got);
	return check("close", kv_close(db)) ? 1 : 0;
}
END
cat >"$tmp/files.c" <<'END'
#include <kvfs/kvfs.h>
#include <stdio.h>
#include <string.h>

static int check(const char *what, int err)
{
	if (err)
		fprintf(stderr, "%s: %s\n", what, kv_strerror(err));
	return err;
}

int main(int argc, char **argv)
{
	struct kvfs_options options;
	struct kv_buf got = {NULL, 0, 0};
	struct kvfs *fs;

	memset(&options, 0, sizeof(options));
	if (argc != 2 || check("open", kvfs_open(argv[1], &options, &fs)) ||
	    check("put", kvfs_key_put(fs, kv_slice_of("a/b", 3), kv_slice_of("text", 4), NULL)) ||
	    check("get", kvfs_key_get(fs, kv_slice_of("a/b", 3), &got)))
		return 1;
	if (got.len != 4)
		return 2;
	kv_buf_free(&got);
	return check("close", kvfs_close(fs)) ? 1 : 0;
}
END
cp "$tmp/files.c" "$tmp/files.cc"
# All public headers as C++, with the lists that programs expand.
cat >"$tmp/stats.cc" <<'END'
#include <kvcore/kvcore_check.h>
#include <kvfs/kvfs.h>
#include <cstdio>
#include <cstring>

static void count(void *n, const char *, bool, uint64_t) { ++*static_cast<int *>(n); }

int main(int argc, char **argv)
{
	static const char *const names[] = {
#define NAME(name) #name,
		KV_COUNTERS(NAME) KV_GAUGES(NAME)
	};
	struct kv_create_options create = {};
	struct kv_stats stats;
	struct kv_histogram h;
	struct kv_buf text = {};
	kv_db *db;
	int n = 0;

	create.log_size_bytes = 1024 * 1024;
	if (argc != 2 || kv_create(argv[1], &create) || kv_open(argv[1], nullptr, &db))
		return 1;
	kv_get_stats(db, &stats);
	kv_stats_each(&stats, count, &n);
	kv_get_histogram(db, KV_HISTOGRAM_LOG_SYNC, &h);
	if (kv_stats_text(db, &text) || !text.len || std::strcmp(h.name, "log_sync") != 0)
		return 2;
	kv_buf_free(&text);
	return kv_close(db) || n != static_cast<int>(sizeof(names) / sizeof(names[0]));
}
END

if [ -n "$sanitize" ]; then
	echo "installed files are in place; programs are linked in the builds without sanitizers"
	exit 0
fi
# shellcheck disable=SC2046 # words
build() { "$1" -Wall -Wextra -Werror "$2" "$3" -o "$tmp/$4" $(pkg-config --cflags --libs "$5"); }
build "$cc" -std=c11 "$tmp/engine.c" engine kvcore || fail "a C program with libkvcore"
build "$cc" -std=c11 "$tmp/files.c" files kvfs || fail "a C program with libkvfs"
build c++ -std=c++11 "$tmp/files.cc" files++ kvfs || fail "a C++ program with libkvfs"
build c++ -std=c++11 "$tmp/stats.cc" stats++ kvcore || fail "a C++ program with libkvcore"
build "$cc" -std=c11 "$KVFS_SRC/docs/tutorial.c" tutorial kvcore || fail "the tutorial"
"$tmp/stats++" "$tmp/stats.kv" || fail "the C++ program with libkvcore: status $?"
"$tmp/tutorial" "$tmp/tutorial.kv" >/dev/null || fail "the tutorial: status $?"
"$tmp/engine" "$tmp/engine.kv" || fail "the program with libkvcore: status $?"
"$prefix/sbin/mkfs.kvfs" -q --log-size 1M "$tmp/v.kvfs"
for program in files files++; do
	"$tmp/$program" "$tmp/v.kvfs" || fail "the program $program: status $?"
	is text "$prefix/bin/kvfs" get "$tmp/v.kvfs" a/b
	is "" "$prefix/bin/kvfs" rm "$tmp/v.kvfs" a/b
done
"$prefix/sbin/fsck.kvfs" -n "$tmp/v.kvfs" >/dev/null || fail "fsck of what the programs wrote"
# The installed kvfs finds the installed mount.kvfs, which is in another folder.
PATH=/usr/bin:/bin refused 32 "mount.kvfs: $tmp/absent" "$prefix/bin/kvfs" "$tmp/absent" "$tmp" -o ro
echo "what is installed works"
