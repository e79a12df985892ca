/* What was done in the window, and what the machine's processors did meanwhile. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
	/* A histogram of ns, 64 steps an octave: 1.6 % wide each at most, up to 2^36 ns. */
	STEPS = 64,
	OCTAVES = 32,
	BUCKETS = STEPS * OCTAVES,
};

#define SLOW_NS 200000000ull /* longer than any work: something was lost, and sent again */

/* What a process tells its parent, on cache lines of its own. */
struct tally {
	_Atomic uint64_t operations, bytes, failed, slow;
	_Atomic uint64_t histogram[BUCKETS];
} __attribute__((aligned(128)));

struct shared {
	atomic_int is_window;
	struct tally tallies[];
};

/* Of all processors together, in ticks (proc_stat(5)). */
struct ticks {
	uint64_t busy, steal;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void add(_Atomic uint64_t *counter, uint64_t by)
{
	/* One writer each: no locked instruction is needed. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

static int bucket_of(uint64_t ns)
{
	int octave;

	if (ns < STEPS)
		return (int)ns;
	octave = 63 - __builtin_clzll(ns) - 6;
	if (octave > OCTAVES - 2)
		return BUCKETS - 1;
	return STEPS * (octave + 1) + (int)((ns >> octave) - STEPS);
}

static uint64_t middle_of(int bucket)
{
	int octave = bucket / STEPS - 1;

	if (octave < 0)
		return (uint64_t)bucket;
	return ((uint64_t)(bucket % STEPS + STEPS) << octave) + ((1ull << octave) >> 1);
}

static int is_window(struct shared *shared)
{
	return atomic_load_explicit(&shared->is_window, memory_order_relaxed);
}

/* Count an operation that has come to its end. */
static void count_operation(struct shared *shared, struct tally *tally, uint64_t took_ns)
{
	if (!is_window(shared))
		return;
	add(&tally->operations, 1);
	add(&tally->histogram[bucket_of(took_ns)], 1);
	if (took_ns >= SLOW_NS)
		add(&tally->slow, 1);
}

static void count_bytes(struct shared *shared, struct tally *tally, uint64_t bytes)
{
	if (is_window(shared))
		add(&tally->bytes, bytes);
}

static struct ticks read_ticks(void)
{
	/* user nice system idle iowait irq softirq steal */
	unsigned long long of[8];
	FILE *file = fopen("/proc/stat", "r");

	if (!file || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &of[0], &of[1], &of[2],
			    &of[3], &of[4], &of[5], &of[6], &of[7]) != 8) {
		fputs("/proc/stat cannot be read\n", stderr);
		exit(1);
	}
	fclose(file);
	return (struct ticks){of[0] + of[1] + of[2] + of[5] + of[6], of[7]};
}

static void sleep_ms(long ms)
{
	struct timespec left = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&left, &left))
		;
}

/* Return how long the share `of_all` of the operations took at most, in microseconds. */
static double quantile_us(const uint64_t *histogram, uint64_t operations, double of_all)
{
	uint64_t seen = 0, wanted = (uint64_t)(of_all * (double)operations);

	for (int bucket = 0; bucket < BUCKETS; bucket++) {
		seen += histogram[bucket];
		if (seen > wanted)
			return (double)middle_of(bucket) / 1000;
	}
	return 0;
}

/* Print what the processes did, as JSON. */
static void print_window(struct shared *shared, int processes, double seconds, struct ticks ticks)
{
	static uint64_t histogram[BUCKETS];
	uint64_t operations = 0, bytes = 0, failed = 0, slow = 0;

	for (int number = 0; number < processes; number++) {
		struct tally *tally = &shared->tallies[number];

		operations += tally->operations;
		bytes += tally->bytes;
		failed += tally->failed;
		slow += tally->slow;
		for (int bucket = 0; bucket < BUCKETS; bucket++)
			histogram[bucket] += tally->histogram[bucket];
	}
	printf("{\"seconds\": %.6f, \"operations\": %llu, \"bytes\": %llu, ", seconds,
	       (unsigned long long)operations, (unsigned long long)bytes);
	printf("\"failed\": %llu, \"slow\": %llu, ", (unsigned long long)failed, (unsigned long long)slow);
	printf("\"p50_us\": %.3f, \"p99_us\": %.3f, ", quantile_us(histogram, operations, 0.5),
	       quantile_us(histogram, operations, 0.99));
	printf("\"busy_s\": %.3f, \"steal_s\": %.3f}\n", (double)ticks.busy / (double)sysconf(_SC_CLK_TCK),
	       (double)ticks.steal / (double)sysconf(_SC_CLK_TCK));
}

static void measure_window(struct shared *shared, int processes, long window_ms)
{
	struct ticks before = read_ticks(), after;
	uint64_t began_ns = now_ns(), ended_ns;

	atomic_store(&shared->is_window, 1);
	sleep_ms(window_ms);
	atomic_store(&shared->is_window, 0);
	ended_ns = now_ns();
	after = read_ticks();
	print_window(shared, processes, (double)(ended_ns - began_ns) / 1e9,
		     (struct ticks){after.busy - before.busy, after.steal - before.steal});
}
