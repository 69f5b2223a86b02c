/* SPDX-License-Identifier: MIT */
/*
 * What comes out of /dev/fuse, crafted: wrong node ids and handles, far offsets, impossible names,
 * requests cut short, forgets of more than was given. The daemon's operations run on a volume in
 * memory, through libfuse, without a mount; answers are caught by the linker's --wrap of writev.
 * Each request is answered once, with a number that the kernel takes for an errno, and at the end
 * the volume is sound.
 *
 * Input: requests one after the other. A byte each for the kind, for what is wrong with it
 * (WRONG_*) and for the node, then how many bytes of its structure follow (the rest is 0) and
 * those, a byte for each name, and what follows it as often as the structure says.
 */
#include "fusefs/op.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fusefs/device.h"
#include "fusefs/raw.h"
#include "fusefs/request.h"
#include "kvcore/base/base.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/sim_env.h"

#define NAME	    "volume"
#define BODY_MAX    70000U
#define SEEN_MAX    64U
#define CACHE_BYTES (8U << 20)
#define ok(expr)    FUZZ_CHECK((expr) == 0)

enum wrong {
	WRONG_LENGTH = 1U << 0, /* the header's */
	WRONG_CUT = 1U << 1,	/* the last bytes are missing */
	WRONG_COUNT = 1U << 2,	/* of what follows */
	WRONG_NODE = 1U << 3,	/* eight bytes of the input */
	WRONG_FORM = 1U << 4,	/* nothing but bytes of the input behind the header */
	ANOTHER_USER = 1U << 5,
	A_NODE_INSIDE = 1U << 6,   /* the structure begins with a node id */
	A_HANDLE_INSIDE = 1U << 7, /* or with a handle */
};

struct kind {
	uint8_t opcode;
	uint8_t fixed, names;
	bool tail;
};

/* clang-format off */
static const struct kind kinds[] = {
	{FUSE_LOOKUP, 0, 1, false},
	{FUSE_FORGET, 8, 0, false},
	{FUSE_GETATTR, 16, 0, false},
	{FUSE_SETATTR, 88, 0, false},
	{FUSE_READLINK, 0, 0, false},
	{FUSE_SYMLINK, 0, 2, false},
	{FUSE_MKNOD, 16, 1, false},
	{FUSE_MKDIR, 8, 1, false},
	{FUSE_UNLINK, 0, 1, false},
	{FUSE_RMDIR, 0, 1, false},
	{FUSE_RENAME, 8, 2, false},
	{FUSE_LINK, 8, 1, false},
	{FUSE_OPEN, 8, 0, false},
	{FUSE_READ, 40, 0, false},
	{FUSE_WRITE, 40, 0, true},
	{FUSE_STATFS, 0, 0, false},
	{FUSE_RELEASE, 24, 0, false},
	{FUSE_FSYNC, 16, 0, false},
	{FUSE_SETXATTR, 8, 1, true},
	{FUSE_GETXATTR, 8, 1, false},
	{FUSE_LISTXATTR, 8, 0, false},
	{FUSE_REMOVEXATTR, 0, 1, false},
	{FUSE_FLUSH, 24, 0, false},
	{FUSE_INIT, 64, 0, false},
	{FUSE_OPENDIR, 8, 0, false},
	{FUSE_READDIR, 40, 0, false},
	{FUSE_RELEASEDIR, 24, 0, false},
	{FUSE_FSYNCDIR, 16, 0, false},
	{FUSE_GETLK, 48, 0, false},
	{FUSE_ACCESS, 8, 0, false},
	{FUSE_CREATE, 16, 1, false},
	{FUSE_INTERRUPT, 8, 0, false},
	{FUSE_BMAP, 16, 0, false},
	{FUSE_IOCTL, 32, 0, true},
	{FUSE_POLL, 24, 0, false},
	{FUSE_BATCH_FORGET, 8, 0, true},
	{FUSE_FALLOCATE, 32, 0, false},
	{FUSE_READDIRPLUS, 40, 0, false},
	{FUSE_RENAME2, 16, 2, false},
	{FUSE_LSEEK, 24, 0, false},
	{FUSE_COPY_FILE_RANGE, 56, 0, false},
	{REQUEST_TMPFILE, 16, 1, false},
	{REQUEST_STATX, 24, 0, false},
	{FUSE_DESTROY, 0, 0, false},
	{0, 0, 0, false},   /* no kind */
	{200, 16, 0, false},
};
/* clang-format on */

static const char *const names[] = {
	"a",
	"b",
	"c",
	"d",
	"dir",
	".",
	"..",
	"",
	"a/b",
	"/",
	".kvfs",
	"user.a",
	"user.b",
	"trusted.a",
	"stats",
	"snapshots",
	"sync",
	"metrics",
	"txn",
	"system.posix_acl_access",
	"security.capability",
};

struct input {
	const uint8_t *data;
	size_t len;
};

/* One session. The linker's wrap has no argument for it. */
static struct rig {
	struct kvfsd d;
	struct mount_options opt;
	struct log log;
	struct sim_env *env;
	struct fuse_session *session;
	int fd;
	uint64_t unique; /* of the request that runs */
	uint32_t opcode;
	unsigned answers;
	unsigned interrupts; /* that libfuse keeps, until the next requests */
	uint64_t nodes[SEEN_MAX], handles[SEEN_MAX];
	unsigned node_count, handle_count;
	uint8_t body[BODY_MAX];
} rig;

/* ---- answers ---- */

ssize_t __wrap_writev(int fd, const struct iovec *iov, int count);

static void remember(uint64_t *list, unsigned *count, const void *at)
{
	memcpy(&list[*count % SEEN_MAX], at, sizeof(*list));
	++*count;
}

static void look_at_answer(const struct fuse_out_header *head, const uint8_t *body, size_t len)
{
	switch (rig.opcode) {
	case FUSE_CREATE:
	case REQUEST_TMPFILE:
		if (len >= sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out))
			remember(rig.handles, &rig.handle_count,
				 body + sizeof(struct fuse_entry_out));
		/* fallthrough */
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
		if (!head->error && len >= sizeof(struct fuse_entry_out))
			remember(rig.nodes, &rig.node_count, body);
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		if (!head->error && len >= sizeof(struct fuse_open_out))
			remember(rig.handles, &rig.handle_count, body);
		break;
	default:
		break;
	}
}

ssize_t __wrap_writev(int fd, const struct iovec *iov, int count)
{
	struct fuse_out_header head;
	size_t len = 0;

	(void)fd;
	FUZZ_CHECK(count >= 1 && iov[0].iov_len == sizeof(head));
	memcpy(&head, iov[0].iov_base, sizeof(head));
	for (int i = 0; i < count; i++)
		len += iov[i].iov_len;
	FUZZ_CHECK(head.len == len);
	/* libfuse answers interrupts of what it does not know later. */
	if (head.unique != rig.unique && head.error == -EAGAIN) {
		rig.interrupts--;
		return (ssize_t)len;
	}
	FUZZ_CHECK(head.unique == rig.unique);
	FUZZ_CHECK(head.error <= 0 && head.error > -512);
	FUZZ_CHECK(!head.error || len == sizeof(head));
	rig.answers++;
	if (count > 1)
		look_at_answer(&head, iov[1].iov_base, iov[1].iov_len);
	return (ssize_t)len;
}

/* ---- the session ---- */

static bool has_answer(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

/* As the pool does it; in a block of its own size, so that nothing is read beyond it. */
static void send_request(uint32_t opcode, uint64_t node, uint32_t uid, size_t len, uint32_t say)
{
	struct fuse_in_header head = {.len = say,
				      .opcode = opcode,
				      .unique = ++rig.unique,
				      .nodeid = node,
				      .uid = uid,
				      .gid = uid,
				      .pid = 1};
	uint8_t *mem = malloc(sizeof(head) + len);
	struct fuse_buf buf = {.size = sizeof(head) + len, .mem = mem};

	FUZZ_CHECK(mem);
	memcpy(mem, &head, sizeof(head));
	if (len)
		memcpy(mem + sizeof(head), rig.body, len);
	rig.opcode = opcode;
	rig.answers = 0;
	if (!raw_answer(&rig.d, rig.fd, mem, buf.size))
		fuse_session_process_buf(rig.session, &buf);
	FUZZ_CHECK(rig.answers == has_answer(opcode));
	rig.interrupts += opcode == FUSE_INTERRUPT && request_is_whole(mem, buf.size);
	free(mem);
}

static struct sim_env *empty_volume(void)
{
	static struct sim_env *empty;
	static const struct kvfs_owner owner = {0, 0, 022};
	struct kv_create_options create = {.log_size_bytes = 1U << 20};

	if (!empty) {
		empty = sim_env_new(1);
		create.env = sim_env_os(empty);
		ok(kvfs_mkfs(NAME, &create, &owner));
	}
	return sim_env_clone(empty, 1);
}

static void begin(bool told_of_opens)
{
	struct kvfs_options options = {.kv = {.cache_bytes = CACHE_BYTES}};
	struct fuse_init_in init = {.major = 7, .minor = 45, .max_readahead = 1U << 17};
	char program[] = "fuzz", *argv[] = {program, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	char channel[32];

	memset(&rig, 0, sizeof(rig));
	rig.env = empty_volume();
	options.kv.env = sim_env_os(rig.env);
	log_init(&rig.log, KV_LOG_ERROR);
	fuse_set_log_func(NULL);
	rig.opt.volume = rig.opt.dir = NAME;
	rig.opt.allow_other = OPTIONS_ON;
	rig.opt.atime = told_of_opens ? OPTIONS_STRICTATIME : OPTIONS_RELATIME;
	rig.d.opt = &rig.opt;
	rig.d.log = &rig.log;
	ok(listing_init(&rig.d.listings));
	ok(tree_init(&rig.d.trees));
	ok(control_init(&rig.d.control));
	ok(handle_init(&rig.d.handles));
	ok(kvfs_open(NAME, &options, &rig.d.fs));
	rig.session = fuse_session_new(&args, &op_table, sizeof(op_table), &rig.d);
	FUZZ_CHECK(rig.session);
	fuse_opt_free_args(&args);
	rig.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	FUZZ_CHECK(rig.fd >= 0);
	snprintf(channel, sizeof(channel), "/dev/fd/%d", rig.fd);
	ok(fuse_session_mount(rig.session, channel));
	ok(device_attach(rig.session));
	rig.nodes[rig.node_count++] = FUSE_ROOT_ID;
	init.flags = ~0U;
	memcpy(rig.body, &init, sizeof(init));
	send_request(FUSE_INIT, 0, 0, sizeof(init),
		     (uint32_t)(sizeof(struct fuse_in_header) + sizeof(init)));
}

static void print_problem(void *ctx, const struct kvfs_problem *p)
{
	(void)ctx;
	fprintf(stderr, "%s\n", p->text);
}

static void end(void)
{
	struct kvfs_check_options c = {.found = print_problem, .env = sim_env_os(rig.env)};
	struct kvfs_check_result result;

	while (rig.interrupts)
		send_request(FUSE_STATFS, FUSE_ROOT_ID, 0, 0, sizeof(struct fuse_in_header));
	fuse_session_destroy(rig.session);
	control_close_directories(&rig.d);
	op_close_directories(&rig.d);
	tree_close_all(&rig.d.trees);
	ok(kvfs_close(rig.d.fs));
	handle_fini(&rig.d.handles);
	control_fini(&rig.d.control);
	tree_fini(&rig.d.trees);
	listing_fini(&rig.d.listings);
	ok(kvfs_check(NAME, &c, &result));
	FUZZ_CHECK(result.problems == 0);
	sim_env_free(rig.env);
}

/* ---- the input ---- */

static uint8_t take(struct input *in)
{
	if (!in->len)
		return 0;
	in->len--;
	return *in->data++;
}

static void take_bytes(struct input *in, void *out, size_t len)
{
	size_t n = min_u64(len, in->len);

	memset(out, 0, len);
	if (n)
		memcpy(out, in->data, n);
	in->data += n;
	in->len -= n;
}

static size_t add_name(struct input *in, size_t at)
{
	uint8_t which = take(in);
	size_t len;

	if (which < KV_ARRAY_COUNT(names)) {
		len = strlen(names[which]);
		memcpy(rig.body + at, names[which], len);
	} else if (which >= 250) { /* around the longest that there may be */
		len = which;
		memset(rig.body + at, 'n', len + 6);
		len += 6;
	} else {
		len = which % 16U;
		take_bytes(in, rig.body + at, len);
	}
	rig.body[at + len] = 0;
	return at + len + 1;
}

/* Where the structure says how much follows, and in which units. */
static void add_count(const struct kind *k, size_t tail)
{
	uint32_t count = (uint32_t)tail;
	size_t at = 0;

	if (k->opcode == FUSE_WRITE)
		at = offsetof(struct fuse_write_in, size);
	else if (k->opcode == FUSE_IOCTL)
		at = offsetof(struct fuse_ioctl_in, in_size);
	else if (k->opcode == FUSE_BATCH_FORGET)
		count /= sizeof(struct fuse_forget_one);
	memcpy(rig.body + at, &count, sizeof(count));
}

static size_t make_body(struct input *in, const struct kind *k, unsigned wrong)
{
	size_t given = take(in), len = 0, tail = 0;

	memset(rig.body, 0, sizeof(rig.body) / 64);
	if (wrong & WRONG_FORM) {
		take_bytes(in, rig.body, given);
		return given;
	}
	take_bytes(in, rig.body, min_u64(given, k->fixed));
	if (wrong & A_NODE_INSIDE && k->fixed >= 8)
		memcpy(rig.body, &rig.nodes[take(in) % SEEN_MAX], 8);
	if (wrong & A_HANDLE_INSIDE && k->fixed >= 8)
		memcpy(rig.body, &rig.handles[take(in) % SEEN_MAX], 8);
	len = k->fixed;
	for (unsigned i = 0; i < k->names; i++)
		len = add_name(in, len);
	if (k->tail) {
		tail = take(in);
		if (tail >= 248) /* beyond what a record holds, and beyond a chunk */
			tail = (tail - 247) * 8000;
		memset(rig.body + len, (int)tail, tail);
		take_bytes(in, rig.body + len, min_u64(tail, 32));
		if (!(wrong & WRONG_COUNT))
			add_count(k, tail);
	}
	return len + tail;
}

static void one_request(struct input *in)
{
	const struct kind *k = &kinds[take(in) % KV_ARRAY_COUNT(kinds)];
	unsigned wrong = take(in);
	uint64_t node = rig.nodes[take(in) % min_u64(rig.node_count, SEEN_MAX)];
	uint32_t say;
	size_t len;

	if (wrong & WRONG_NODE)
		take_bytes(in, &node, sizeof(node));
	len = make_body(in, k, wrong);
	if (wrong & WRONG_CUT)
		len -= min_u64(len, take(in));
	say = (uint32_t)(sizeof(struct fuse_in_header) + len);
	if (wrong & WRONG_LENGTH)
		say ^= take(in);
	send_request(k->opcode, node, wrong & ANOTHER_USER ? 1000 : 0, len, say);
}

void fuzz_one(const uint8_t *data, size_t len)
{
	struct input in = {data, len};

	begin(take(&in) & 1);
	while (in.len)
		one_request(&in);
	end();
}

/* Something of each kind with nothing wrong, so that there is something to break. */
static size_t add(uint8_t *out, size_t at, uint8_t kind, uint8_t node, uint8_t name)
{
	const struct kind *k = &kinds[kind];

	out[at++] = kind;
	out[at++] = 0;
	out[at++] = node;
	out[at++] = k->fixed;
	memset(out + at, 0, k->fixed);
	at += k->fixed;
	for (unsigned i = 0; i < k->names; i++)
		out[at++] = (uint8_t)(name + i);
	if (k->tail)
		out[at++] = 0;
	return at;
}

static uint8_t kind_of(uint8_t opcode)
{
	uint8_t i = 0;

	while (kinds[i].opcode != opcode)
		i++;
	return i;
}

/* A file, a directory, a link, an open directory; then each kind, on each of them in turn. */
size_t fuzz_seed(unsigned n, uint8_t *out, size_t cap)
{
	static const uint8_t first[] = {FUSE_MKNOD, FUSE_MKDIR, FUSE_SYMLINK, FUSE_OPENDIR};
	size_t at = 0;

	(void)cap;
	if (n >= KV_ARRAY_COUNT(kinds) * 5)
		return 0;
	out[at++] = n & 1;
	for (uint8_t i = 0; i < sizeof(first); i++) {
		size_t body = at + 4;

		at = add(out, at, kind_of(first[i]), 0, (uint8_t)(i * 2));
		if (first[i] == FUSE_MKNOD)
			out[body + 1] = 0x81; /* S_IFREG | 0400 */
	}
	at = add(out, at, kind_of(FUSE_LOOKUP), 0, 10);
	at = add(out, at, (uint8_t)(n / 5), (uint8_t)(n % 5), (uint8_t)(n % 3));
	at = add(out, at, kind_of(FUSE_GETATTR), 1, 0);
	return at;
}
