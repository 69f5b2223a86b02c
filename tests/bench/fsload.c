/* SPDX-License-Identifier: MIT */
/*
 * One workload on one directory, timed: wall time, processor time of this process
 * and its children, and processor time of the daemon behind the mount, if there is
 * one. Preparing and cleaning up are not timed. tests/bench/fsbench runs it for one
 * contestant after the other; what needs a real program (tar, git, ...) is given to
 * the workload "run" as a shell command.
 *
 *   fsload DIR DAEMON_PID WORKLOAD COUNT SIZE THREADS [COMMAND]
 *
 * prints "ops wall_ns client_ns daemon_ns". Every error ends it: a figure of work that was not
 * done is worth nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64
#define PER_DIR	    1000 /* files of one directory */
#define IO_MAX	    (1U << 20)

struct load {
	const char *dir, *command;
	long count;	 /* operations of all threads */
	size_t size;	 /* bytes of one */
	unsigned thread; /* number of this one */
	unsigned threads;
	long ops; /* done by this one */
	char *data;
};

static void die(const char *what)
{
	fprintf(stderr, "fsload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int check(int result, const char *what)
{
	if (result < 0)
		die(what);
	return result;
}

static void write_all(int fd, const char *data, size_t len, off_t off, const char *what)
{
	if (pwrite(fd, data, len, off) != (ssize_t)len)
		die(what);
}

/* The name of file @n: thread T's are in T/0, T/1, ... */
static char *file_name(const struct load *l, const char *stem, long n, char out[256])
{
	snprintf(out, 256, "%s/%u/%ld/%s%06ld", l->dir, l->thread, n / PER_DIR, stem, n);
	return out;
}

static long share(const struct load *l)
{
	return l->count / l->threads;
}

static void make_dirs(const struct load *l)
{
	char name[256];

	snprintf(name, sizeof(name), "%s/%u", l->dir, l->thread);
	if (mkdir(name, 0755) && errno != EEXIST)
		die(name);
	for (long d = 0; d * PER_DIR < share(l); d++) {
		snprintf(name, sizeof(name), "%s/%u/%ld", l->dir, l->thread, d);
		if (mkdir(name, 0755) && errno != EEXIST)
			die(name);
	}
}

/* ---- the workloads; each is run by every thread ---- */

static void create_files(struct load *l, int flags, bool sync)
{
	char name[256];
	int fd;

	for (long n = 0; n < share(l); n++) {
		fd = check(open(file_name(l, "f", n, name), O_CREAT | O_WRONLY | flags, 0644),
			   name);
		write_all(fd, l->data, l->size, 0, name);
		if (sync)
			check(fsync(fd), name);
		close(fd);
		l->ops++;
	}
}

static void do_create(struct load *l)
{
	create_files(l, O_EXCL, false);
}

static void do_create_fsync(struct load *l)
{
	create_files(l, O_EXCL, true);
}

/* The files are there: cut to nothing and written again. */
static void do_overwrite(struct load *l)
{
	create_files(l, O_TRUNC, false);
}

/* A new file, renamed over the old. */
static void do_replace(struct load *l)
{
	char name[256], fresh[256];
	int fd;

	for (long n = 0; n < share(l); n++) {
		fd = check(open(file_name(l, "tmp", 0, fresh), O_CREAT | O_WRONLY, 0644), fresh);
		write_all(fd, l->data, l->size, 0, fresh);
		close(fd);
		check(rename(fresh, file_name(l, "f", n, name)), name);
		l->ops++;
	}
}

static void do_stat(struct load *l)
{
	struct stat st;
	char name[256];

	for (long n = 0; n < share(l); n++) {
		check(stat(file_name(l, "f", n, name), &st), name);
		l->ops++;
	}
}

static void do_read(struct load *l)
{
	char name[256];
	int fd;

	for (long n = 0; n < share(l); n++) {
		fd = check(open(file_name(l, "f", n, name), O_RDONLY), name);
		check((int)read(fd, l->data, IO_MAX), name);
		close(fd);
		l->ops++;
	}
}

/* In an order that is no order. */
static void do_read_random(struct load *l)
{
	unsigned seed = l->thread + 1;
	char name[256];
	int fd;

	for (long n = 0; n < share(l); n++) {
		file_name(l, "f", rand_r(&seed) % share(l), name);
		fd = check(open(name, O_RDONLY), name);
		check((int)read(fd, l->data, IO_MAX), name);
		close(fd);
		l->ops++;
	}
}

static void do_rename(struct load *l)
{
	char from[256], to[256];

	for (long n = 0; n < share(l); n++) {
		check(rename(file_name(l, "f", n, from), file_name(l, "g", n, to)), from);
		l->ops++;
	}
}

/* A directory, there and back. */
static void do_rename_dir(struct load *l)
{
	char from[256], to[256];

	snprintf(from, sizeof(from), "%s/%u", l->dir, l->thread);
	snprintf(to, sizeof(to), "%s/other%u", l->dir, l->thread);
	for (int i = 0; i < 10; i++) {
		check(rename(i % 2 ? to : from, i % 2 ? from : to), from);
		l->ops++;
	}
}

static void do_unlink(struct load *l)
{
	char name[256];

	for (long n = 0; n < share(l); n++) {
		check(unlink(file_name(l, "f", n, name)), name);
		l->ops++;
	}
}

static void do_readdir(struct load *l)
{
	char name[256];
	struct dirent *e;
	DIR *d;

	snprintf(name, sizeof(name), "%s/flat", l->dir);
	d = opendir(name);
	if (!d)
		die(name);
	for (errno = 0; (e = readdir(d)) != NULL; errno = 0)
		l->ops++;
	if (errno)
		die(name);
	closedir(d);
}

static int open_big(const struct load *l, int flags)
{
	char name[256];

	snprintf(name, sizeof(name), "%s/big%u", l->dir, l->thread);
	return check(open(name, O_CREAT | O_RDWR | flags, 0644), name);
}

static void append(struct load *l, bool sync)
{
	int fd = open_big(l, O_APPEND);

	for (long n = 0; n < share(l); n++) {
		if (write(fd, l->data, l->size) != (ssize_t)l->size)
			die("append");
		if (sync)
			check(fsync(fd), "fsync");
		l->ops++;
	}
	close(fd);
}

static void do_append(struct load *l)
{
	append(l, false);
}

static void do_append_fsync(struct load *l)
{
	append(l, true);
}

/* At random places of the file "big", which is there; one fsync each, or one at the end. */
static void write_random(struct load *l, bool sync)
{
	int fd = open_big(l, 0);
	unsigned seed = l->thread + 1;
	uint64_t places;
	struct stat st;

	check(fstat(fd, &st), "fstat");
	places = (uint64_t)st.st_size / l->size;
	for (long n = 0; places && n < share(l); n++) {
		uint64_t at = ((uint64_t)rand_r(&seed) << 31 | (uint64_t)rand_r(&seed)) % places;

		write_all(fd, l->data, l->size, (off_t)(at * l->size), "write");
		if (sync)
			check(fsync(fd), "fsync");
		l->ops++;
	}
	check(fsync(fd), "fsync");
	close(fd);
}

static void do_write_random(struct load *l)
{
	write_random(l, false);
}

static void do_write_random_fsync(struct load *l)
{
	write_random(l, true);
}

/* Operations are of IO_MAX bytes. */
static void do_write_big(struct load *l)
{
	int fd = open_big(l, O_TRUNC);

	for (long n = 0; n < share(l); n++) {
		write_all(fd, l->data, IO_MAX, (off_t)n * IO_MAX, "write");
		l->ops++;
	}
	check(fsync(fd), "fsync");
	close(fd);
}

static void do_read_big(struct load *l)
{
	int fd = open_big(l, 0);

	while (check((int)read(fd, l->data, IO_MAX), "read") > 0)
		l->ops++;
	close(fd);
}

/* ---- preparations, which are not timed ---- */

static void make_flat(struct load *l)
{
	char name[256];

	snprintf(name, sizeof(name), "%s/flat", l->dir);
	if (mkdir(name, 0755)) {
		if (errno == EEXIST)
			return;
		die(name);
	}
	for (long n = 0; n < l->count; n++) {
		snprintf(name, sizeof(name), "%s/flat/f%06ld", l->dir, n);
		close(check(open(name, O_CREAT | O_WRONLY, 0644), name));
	}
}

static void make_files(struct load *l)
{
	create_files(l, 0, false);
}

static void make_big(struct load *l)
{
	do_write_big(l);
}

static const struct {
	const char *name;
	void (*run)(struct load *l);
	void (*prepare)(struct load *l);
} loads[] = {
	{"make_flat", make_flat, NULL}, /* for the cold ones, which a remount follows */
	{"make_files", make_files, NULL},
	{"make_big", make_big, NULL},
	{"create", do_create, NULL},
	{"create_fsync", do_create_fsync, NULL},
	{"overwrite", do_overwrite, NULL},
	{"replace", do_replace, NULL},
	{"stat", do_stat, NULL},
	{"stat_warm", do_stat, do_stat},
	{"read", do_read, NULL},
	{"read_random", do_read_random, NULL},
	{"read_warm", do_read, do_read},
	{"readdir", do_readdir, NULL},
	{"readdir_warm", do_readdir, do_readdir},
	{"rename", do_rename, NULL},
	{"rename_dir", do_rename_dir, NULL},
	{"unlink", do_unlink, NULL},
	{"append", do_append, NULL},
	{"append_fsync", do_append_fsync, NULL},
	{"write_random", do_write_random, NULL},
	{"write_random_fsync", do_write_random_fsync, NULL},
	{"write_big", do_write_big, NULL},
	{"read_big", do_read_big, NULL},
};

/* ---- timing ---- */

struct times {
	int64_t wall, client, daemon;
};

static int64_t ns_of(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t))
		return 0;
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t usage_ns(int who)
{
	struct rusage r;

	getrusage(who, &r);
	return (int64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000 +
	       (int64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000;
}

static struct times now(pid_t server)
{
	struct times t = {.wall = ns_of(CLOCK_MONOTONIC),
			  .client = usage_ns(RUSAGE_SELF) + usage_ns(RUSAGE_CHILDREN)};
	clockid_t clock;

	if (server > 0 && clock_getcpuclockid(server, &clock) == 0)
		t.daemon = ns_of(clock);
	return t;
}

struct job {
	struct load load;
	void (*run)(struct load *l);
};

static void *job_run(void *arg)
{
	struct job *j = arg;

	j->run(&j->load);
	return NULL;
}

static long run_all(const struct load *base, void (*run)(struct load *l))
{
	struct job jobs[THREADS_MAX];
	pthread_t ids[THREADS_MAX];
	long ops = 0;

	for (unsigned i = 0; i < base->threads; i++) {
		jobs[i] = (struct job){*base, run};
		jobs[i].load.thread = i;
		jobs[i].load.data = malloc(IO_MAX);
		if (!jobs[i].load.data)
			die("malloc");
		for (size_t at = 0; at < IO_MAX; at++) /* half of it compresses */
			jobs[i].load.data[at] = at & 64 ? (char)(at * at >> 7) : 'x';
	}
	for (unsigned i = 1; i < base->threads; i++)
		if (pthread_create(&ids[i], NULL, job_run, &jobs[i]))
			die("pthread_create");
	job_run(&jobs[0]);
	for (unsigned i = 1; i < base->threads; i++)
		(void)pthread_join(ids[i], NULL);
	for (unsigned i = 0; i < base->threads; i++) {
		ops += jobs[i].load.ops;
		free(jobs[i].load.data);
	}
	return ops;
}

static long run_command(const struct load *l)
{
	int status;
	pid_t pid;

	check(chdir(l->dir), l->dir);
	pid = check(fork(), "fork");
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", l->command, (char *)NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	if (status) {
		fprintf(stderr, "fsload: status %d of: %s\n", status, l->command);
		exit(1);
	}
	return l->count;
}

int main(int argc, char **argv)
{
	struct load l = {0};
	struct times from, to;
	size_t which = 0;
	pid_t server;
	long ops;

	if (argc < 7) {
		fprintf(stderr, "usage: fsload DIR DAEMON_PID WORKLOAD COUNT SIZE THREADS"
				" [COMMAND]\n");
		return 2;
	}
	server = (pid_t)strtol(argv[2], NULL, 10);
	l = (struct load){.dir = argv[1], .command = argc > 7 ? argv[7] : NULL};
	l.count = strtol(argv[4], NULL, 10);
	l.size = strtoul(argv[5], NULL, 10);
	l.threads = (unsigned)strtoul(argv[6], NULL, 10);
	if (!l.threads || l.threads > THREADS_MAX || l.size > IO_MAX)
		return 2;
	while (which < sizeof(loads) / sizeof(loads[0]) && strcmp(loads[which].name, argv[3]) != 0)
		which++;
	if (which == sizeof(loads) / sizeof(loads[0]) && !l.command)
		return 2;
	for (l.thread = 0; !l.command && l.thread < l.threads; l.thread++)
		make_dirs(&l);
	l.thread = 0;
	if (!l.command && loads[which].prepare)
		(void)run_all(&l, loads[which].prepare);
	from = now(server);
	ops = l.command ? run_command(&l) : run_all(&l, loads[which].run);
	to = now(server);
	printf("%ld %lld %lld %lld\n", ops, (long long)(to.wall - from.wall),
	       (long long)(to.client - from.client), (long long)(to.daemon - from.daemon));
	return 0;
}
