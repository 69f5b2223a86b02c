#!/bin/bash
# SPDX-License-Identifier: MIT
# Access control lists and the flags of chattr(1) do what they do on other file systems, and are
# there after a remount.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

for program in setfacl getfacl chattr lsattr; do
	command -v $program >/dev/null || skip "needs $program"
done
setpriv --help >/dev/null 2>&1 || skip "needs setpriv"
vol=$tmp/volume dir=$tmp/m
make_volume "$vol"
mount_volume "$vol" "$dir" allow_other
chmod 755 "$tmp" "$dir"

as() { # as UID GID COMMAND...
	setpriv --reuid "$1" --regid "$2" --clear-groups "${@:3}"
}
acl() { getfacl -cn "$1" 2>/dev/null | tr -s '\n\t' ' '; }
is() { [ "$1" = "$2" ] || fail "expected '$2', got '$1'"; }
# The kernel obeys a list.
mkdir "$dir/d"
echo x >"$dir/d/f"
chmod 600 "$dir/d/f"
as 1000 1000 cat "$dir/d/f" 2>/dev/null && fail "a stranger reads"
setfacl -m u:1000:r,g:2000:rw "$dir/d/f"
is "$(as 1000 1000 cat "$dir/d/f")" x
as 1000 1000 bash -c "echo y >>'$dir/d/f'" 2>/dev/null && fail "write without the right"
as 1001 2000 bash -c "echo y >>'$dir/d/f'" || fail "a group of the list is not obeyed"
as 1001 1001 cat "$dir/d/f" 2>/dev/null && fail "a stranger reads"
# Lists and modes follow each other.
is "$(stat -c %a "$dir/d/f")" 660
chmod 640 "$dir/d/f"
is "$(acl "$dir/d/f")" "user::rw- user:1000:r-- group::--- group:2000:rw- #effective:r-- mask::r-- other::--- "
as 1001 2000 bash -c "echo y >>'$dir/d/f'" 2>/dev/null && fail "the mask is not obeyed"
setfacl -b "$dir/d/f"
is "$(getfattr -m - "$dir/d/f" 2>/dev/null)" ""
is "$(stat -c %a "$dir/d/f")" 600
# Only the owner sets them.
refused "Operation not permitted" as 1000 1000 setfacl -m u:1000:rwx "$dir/d/f"
# What is made in a directory inherits, and the umask is not asked.
setfacl -d -m u:1000:rwx,g::rx,o::- "$dir/d"
(umask 077 && touch "$dir/d/new" && mkdir "$dir/d/sub" && mkfifo "$dir/d/pipe" && ln -s f "$dir/d/link")
is "$(stat -c %a "$dir/d/new" "$dir/d/sub" "$dir/d/pipe" "$dir/d/link" | tr '\n' ' ')" "660 770 660 777 "
is "$(acl "$dir/d/new")" "user::rw- user:1000:rwx #effective:rw- group::r-x #effective:r-- mask::rw- other::--- "
(umask 027 && touch "$dir/plain" && mkdir "$dir/plain.d")
is "$(stat -c %a "$dir/plain" "$dir/plain.d" | tr '\n' ' ')" "640 750 "
refused "Permission denied" setfattr -n system.posix_acl_default -v 0x0200000001000700ffffffff04000700ffffffff20000700ffffffff "$dir/plain"
refused "Invalid argument" setfattr -n system.posix_acl_access -v 0x0200000001000700ffffffff "$dir/plain"
# A list set by who is not in the group takes the set-group-id bit away.
touch "$dir/owned"
chown 1000:2000 "$dir/owned"
chmod 2755 "$dir/owned"
as 1000 1000 setfacl -m u:1001:r "$dir/owned"
is "$(stat -c %a "$dir/owned")" 755
# cp -a takes a list along.
cp -a "$dir/d" "$dir/copy"
is "$(acl "$dir/copy/new")" "$(acl "$dir/d/new")"
is "$(acl "$dir/copy")" "$(acl "$dir/d")"

# Flags.
flags() { lsattr -d "$1" | cut -d' ' -f1 | tr -d -- -; }
echo x >"$dir/fixed"
chattr +id "$dir/fixed"
is "$(flags "$dir/fixed")" id
before=$(stat -c %z "$dir/fixed") && sleep 0.02
chattr +A "$dir/fixed"
[ "$(stat -c %z "$dir/fixed")" != "$before" ] || fail "chattr leaves the time of change"
chattr -A "$dir/fixed"
no="Operation not permitted"
refused "$no" bash -c "echo y >>'$dir/fixed'"
refused "$no" truncate -s 0 "$dir/fixed"
refused "$no" rm -f "$dir/fixed"
refused "$no" mv "$dir/fixed" "$dir/other"
refused "$no" mv -f "$dir/plain" "$dir/fixed"
refused "$no" ln "$dir/fixed" "$dir/other"
refused "$no" chmod 600 "$dir/fixed"
refused "$no" chown 1000 "$dir/fixed"
refused "$no" touch "$dir/fixed"
refused "$no" setfattr -n user.a -v 1 "$dir/fixed"
refused "$no" setfacl -m u:1000:r "$dir/fixed"
refused "$no" fallocate -l 100 "$dir/fixed"
refused "$no" as 1000 1000 chattr -i "$dir/fixed"
echo x >"$dir/log"
chattr +a "$dir/log"
echo y >>"$dir/log"
refused "$no" bash -c "echo z 1<>'$dir/log'"
refused "$no" truncate -s 0 "$dir/log"
refused "$no" rm -f "$dir/log"
is "$(tr '\n' ' ' <"$dir/log")" "x y "
mkdir "$dir/keep"
touch "$dir/keep/old"
chattr +a "$dir/keep"
touch "$dir/keep/new"
refused "$no" rm -f "$dir/keep/old"
refused "$no" mv "$dir/keep/old" "$dir/old"
chattr -a "$dir/keep"
chattr +i "$dir/keep"
refused "$no" touch "$dir/keep/more"
refused "$no" rm -f "$dir/keep/old"
refused "not supported" chattr +c "$dir/plain"
touch -d '1999-01-01' "$dir/plain"

find "$dir" -printf '%P %m %u %g %y\n' | sort >"$tmp/before"
getfacl -Rnp "$dir" >"$tmp/acl.before"
umount_volume "$dir" "$vol"
fsck.kvfs "$vol" >/dev/null || fail "fsck"
mount_volume "$vol" "$dir" allow_other
find "$dir" -printf '%P %m %u %g %y\n' | sort | cmp - "$tmp/before"
getfacl -Rnp "$dir" | cmp - "$tmp/acl.before"
is "$(flags "$dir/fixed") $(flags "$dir/log") $(flags "$dir/keep") $(flags "$dir/plain")" "id a i "
refused "$no" rm -f "$dir/fixed"
umount_volume "$dir" "$vol"
# Where the daemon is told of opens, they are refused already.
for how in strictatime txn=close; do
	mount_volume "$vol" "$dir" allow_other,$how
	refused "$no" bash -c ": 1<>'$dir/fixed'"
	refused "$no" bash -c ": >>'$dir/fixed'"
	refused "$no" bash -c ": 1<>'$dir/log'"
	refused "$no" bash -c ": >'$dir/log'"
	: >>"$dir/log"
	is "$(cat "$dir/fixed")" x
	umount_volume "$dir" "$vol"
done
mount_volume "$vol" "$dir" allow_other
chattr -ia "$dir/fixed" "$dir/log" "$dir/keep"
rm -r "${dir:?}"/*
umount_volume "$dir" "$vol"

# Without them, modes are all there is.
mount_volume "$vol" "$dir" noacl
touch "$dir/f"
refused "not supported" setfacl -m u:1000:r "$dir/f"
(umask 077 && touch "$dir/g")
is "$(stat -c %a "$dir/g")" 600
umount_volume "$dir" "$vol"
echo "lists and flags are obeyed"
