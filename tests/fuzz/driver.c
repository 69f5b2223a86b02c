/* SPDX-License-Identifier: MIT */
/*
 * Runs a target without libFuzzer: first every file of the given directories and the target's own
 * seeds, then mutations of them, so many as -runs=N says, from one seed. What
 * kills the target is left in "fuzz-failure", to be run alone and kept in the corpus. (Under
 * ASan with ASAN_OPTIONS=abort_on_error=1.)
 *
 *   fuzz_X [-runs=N] [-seed=S] [-timeout=SECONDS] [FILE or DIRECTORY]...
 */
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "tests/support/test_suite.h"

#define INPUT_MAX  8192U
#define CORPUS_MAX 4096U

struct input {
	size_t len;
	uint8_t data[INPUT_MAX];
};

static struct input *corpus[CORPUS_MAX];
static unsigned corpus_count;
static unsigned timeout_s = 20;
static const struct input *running;

/* The program dies; in a handler too, since there is nothing left to lose. */
static void on_death(const char *why)
{
	char name[] = "fuzz-failure";
	FILE *f = fopen(name, "wb");

	if (f && running) {
		(void)fwrite(running->data, 1, running->len, f);
		(void)fclose(f);
	}
	fprintf(stderr, "%s; the input is in %s\n", why, name);
}

static void run(const struct input *in)
{
	uint8_t *copy = malloc(in->len ? in->len : 1);

	FUZZ_CHECK(copy);
	memcpy(copy, in->data, in->len);
	running = in;
	alarm(timeout_s);
	fuzz_one(copy, in->len);
	alarm(0);
	free(copy);
}

static void add(const uint8_t *data, size_t len)
{
	struct input *in;

	FUZZ_CHECK(corpus_count < CORPUS_MAX && len <= INPUT_MAX);
	in = malloc(sizeof(*in));
	FUZZ_CHECK(in);
	in->len = len;
	memcpy(in->data, data, len);
	corpus[corpus_count++] = in;
}

static void add_file(const char *path)
{
	static uint8_t buf[INPUT_MAX];
	FILE *f = fopen(path, "rb");
	size_t len;

	FUZZ_CHECK(f);
	len = fread(buf, 1, sizeof(buf), f);
	FUZZ_CHECK(!ferror(f));
	(void)fclose(f);
	add(buf, len);
}

static void add_path(const char *path)
{
	char name[4096];
	struct dirent *d;
	struct stat st;
	DIR *dir;

	FUZZ_CHECK(stat(path, &st) == 0);
	if (!S_ISDIR(st.st_mode)) {
		add_file(path);
		return;
	}
	dir = opendir(path);
	FUZZ_CHECK(dir);
	while ((d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, d->d_name);
		add_file(name);
	}
	(void)closedir(dir);
}

/* One change of the kind that fuzzers make. */
static void mutate(struct input *in, struct test_rng *rng)
{
	static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, 0x10, 0x40, 0xfe};
	size_t at = in->len ? test_rng_below(rng, in->len) : 0;
	size_t n = 1 + test_rng_below(rng, 8);
	const struct input *other;

	switch (in->len ? test_rng_below(rng, 7) : 6) {
	case 0:
		in->data[at] ^= (uint8_t)(1U << test_rng_below(rng, 8));
		break;
	case 1:
		in->data[at] = odd[test_rng_below(rng, sizeof(odd))];
		break;
	case 2:
		in->data[at] = (uint8_t)(in->data[at] + test_rng_below(rng, 35) - 17);
		break;
	case 3: /* cut out */
		n = n < in->len - at ? n : in->len - at;
		memmove(in->data + at, in->data + at + n, in->len - at - n);
		in->len -= n;
		break;
	case 4: /* say twice */
		n = n < in->len - at ? n : in->len - at;
		if (in->len + n > INPUT_MAX)
			break;
		memmove(in->data + at + n, in->data + at, in->len - at);
		in->len += n;
		break;
	case 5: /* the tail of another */
		other = corpus[test_rng_below(rng, corpus_count)];
		if (at < other->len) {
			memcpy(in->data + at, other->data + at, other->len - at);
			in->len = other->len;
		}
		break;
	default:
		n = n < INPUT_MAX - in->len ? n : INPUT_MAX - in->len;
		test_rng_fill(rng, in->data + in->len, n);
		in->len += n;
	}
}

static void add_seeds(void)
{
	static uint8_t buf[INPUT_MAX];
	size_t len;

	for (unsigned n = 0; (len = fuzz_seed(n, buf, sizeof(buf))) > 0; n++)
		add(buf, len);
	add(buf, 0);
}

static void died(void)
{
	if (running)
		on_death("the target ended the program");
}

static void mutants(uint64_t runs, uint64_t seed)
{
	struct test_rng rng = {seed};
	struct input *in = malloc(sizeof(*in));

	FUZZ_CHECK(in);
	for (uint64_t i = 0; i < runs; i++) {
		unsigned changes = 1 + (unsigned)test_rng_below(&rng, 6);

		*in = *corpus[test_rng_below(&rng, corpus_count)];
		while (changes--)
			mutate(in, &rng);
		run(in);
	}
	running = NULL;
	free(in);
}

static void on_signal(int sig)
{
	on_death(strsignal(sig));
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

int main(int argc, char **argv)
{
	uint64_t runs = 0;
	uint64_t seed = (uint64_t)time(NULL);

	add_seeds();
	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "-runs=", 6) == 0)
			runs = strtoull(argv[i] + 6, NULL, 0);
		else if (strncmp(argv[i], "-seed=", 6) == 0)
			seed = strtoull(argv[i] + 6, NULL, 0);
		else if (strncmp(argv[i], "-timeout=", 9) == 0)
			timeout_s = (unsigned)strtoul(argv[i] + 9, NULL, 0);
		else
			add_path(argv[i]);
	}
	(void)atexit(died);
	(void)signal(SIGALRM, on_signal);
	(void)signal(SIGABRT, on_signal);
	printf("%u inputs, %llu mutants, -seed=%llu\n", corpus_count, (unsigned long long)runs,
	       (unsigned long long)seed);
	fflush(stdout);
	for (unsigned i = 0; i < corpus_count; i++)
		run(corpus[i]);
	mutants(runs, seed);
	for (unsigned i = 0; i < corpus_count; i++)
		free(corpus[i]);
	return EXIT_SUCCESS;
}
