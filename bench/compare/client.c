/* The load: one process a processor, all of them together `parallel` connections at a time.
 *
 *     client MODE PARALLEL WARMUP_MS WINDOW_MS SOURCE[,SOURCE...] ADDRESS:PORT[,ADDRESS:PORT...]
 *            [PER_SECOND]
 *
 *     connect    connect, send a byte, get it back, close; then the next one
 *     requests   on connections that stay: send 64 bytes, get them back; then the next ones
 *     bulk       on connections that stay: read what the server sends
 *
 * Targets are taken in turn. Source ports are, too, each (address, port) once before the first is
 * used again, so that no connection waits for what another has left in TIME_WAIT, and none has
 * to search. With PER_SECOND that many connections are begun, and no more, by as many of the
 * `parallel` as it takes; else each begins the next one at once. What happened in the window is
 * printed as JSON, with what /proc/stat says about it.
 */
#include "net.h"
#include "tally.h"

#include <sys/mman.h>
#include <sys/prctl.h>

enum {
	FIRST_PORT = 1024,
	PORTS = 65536 - FIRST_PORT,
	MAX_ENDPOINTS = 64,
	MAX_EVENTS = 256,
	REQUEST_BYTES = 64,
	BLOCK_BYTES = 256 << 10,
	TRIES = 1000,
};

enum mode { CONNECT, REQUESTS, BULK };

struct slot {
	int fd;
	int is_connected;
	uint32_t received;
	uint64_t began_ns;
};

struct load {
	enum mode mode;
	int processes, number, epoll_fd, source_count, target_count;
	struct sockaddr_in sources[MAX_ENDPOINTS], targets[MAX_ENDPOINTS];
	uint64_t ports_taken, targets_taken;
	struct slot *slots;
	int slot_count;
	uint64_t pause_ns, due_ns; /* from one connection to the next, if any */
	int *idle, idle_count;
	struct shared *shared;
	struct tally *tally;
};

static char block[BLOCK_BYTES];

static struct sockaddr_in next_source(struct load *load)
{
	uint64_t turn = load->ports_taken++ * (uint64_t)load->processes + (uint64_t)load->number;
	struct sockaddr_in source = load->sources[turn / PORTS % (uint64_t)load->source_count];

	source.sin_port = htons((uint16_t)(FIRST_PORT + turn % PORTS));
	return source;
}

/* Begin a connection; -1 when this source cannot be used now. */
static int begin(struct load *load, const struct sockaddr_in *target)
{
	struct sockaddr_in source = next_source(load);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	set_no_delay(fd);
	if (bind(fd, (struct sockaddr *)&source, sizeof source) == 0 &&
	    (connect(fd, (const struct sockaddr *)target, sizeof *target) == 0 || errno == EINPROGRESS))
		return fd;
	if (errno != EADDRINUSE && errno != EADDRNOTAVAIL)
		die("connect");
	close(fd);
	return -1;
}

static void open_slot(struct load *load, int number)
{
	struct slot *slot = &load->slots[number];
	uint64_t turn = load->targets_taken++ + (uint64_t)load->number;
	const struct sockaddr_in *target = &load->targets[turn % (uint64_t)load->target_count];
	int tries = TRIES;

	do {
		slot->began_ns = now_ns();
		slot->is_connected = 0;
		slot->received = 0;
		slot->fd = begin(load, target);
	} while (slot->fd < 0 && --tries);
	if (slot->fd < 0)
		die("no source port is free");
	/* Told once when it is connected, and at each arrival. */
	watch(load->epoll_fd, slot->fd, EPOLLIN | EPOLLOUT | EPOLLET, (uint64_t)number);
}

static void open_again(struct load *load, int number, int has_failed)
{
	close(load->slots[number].fd);
	if (has_failed)
		add(&load->tally->failed, 1);
	if (load->pause_ns)
		load->idle[load->idle_count++] = number;
	else
		open_slot(load, number);
}

/* Begin what is due by now, as far as there are slots: late ones are made up for. */
static void open_due(struct load *load)
{
	for (; load->idle_count && load->due_ns <= now_ns(); load->due_ns += load->pause_ns)
		open_slot(load, load->idle[--load->idle_count]);
}

/* Send what begins an exchange; 0 when the connection is broken. */
static int say(struct load *load, struct slot *slot)
{
	size_t size = load->mode == REQUESTS ? REQUEST_BYTES : 1;
	char data[REQUEST_BYTES] = {load->mode == BULK ? 'B' : 'E'};

	if (load->mode == REQUESTS)
		slot->began_ns = now_ns();
	return send(slot->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static int start_exchange(struct load *load, int number)
{
	struct slot *slot = &load->slots[number];
	/* One read an event, so that the streams take turns. */
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)number};

	if (slot->is_connected)
		return 1;
	slot->is_connected = 1;
	if (load->mode == BULK && epoll_ctl(load->epoll_fd, EPOLL_CTL_MOD, slot->fd, &event))
		die("epoll_ctl");
	return say(load, slot);
}

/* Take what has arrived on a connection that stays; 0 when it is broken. */
static int take(struct load *load, struct slot *slot)
{
	size_t size = load->mode == BULK ? sizeof block : REQUEST_BYTES - slot->received;
	ssize_t got = recv(slot->fd, block, size, 0);

	if (got <= 0)
		return got < 0 && errno == EAGAIN;
	if (load->mode == BULK) {
		count_bytes(load->shared, load->tally, (uint64_t)got);
		return 1;
	}
	slot->received += (uint32_t)got;
	if (slot->received < REQUEST_BYTES)
		return take(load, slot);
	slot->received = 0;
	count_operation(load->shared, load->tally, now_ns() - slot->began_ns);
	return say(load, slot);
}

/* Take the byte that ends a connection of CONNECT, and go on with the next one. */
static void finish(struct load *load, int number)
{
	struct slot *slot = &load->slots[number];
	char byte;
	ssize_t got = recv(slot->fd, &byte, 1, 0);

	if (got < 0 && errno == EAGAIN)
		return;
	if (got == 1)
		count_operation(load->shared, load->tally, now_ns() - slot->began_ns);
	open_again(load, number, got != 1);
}

static void handle(struct load *load, int number, uint32_t events)
{
	struct slot *slot = &load->slots[number];

	if (events & EPOLLERR)
		open_again(load, number, 1);
	else if (!(events & EPOLLIN)) {
		if (!start_exchange(load, number))
			open_again(load, number, 1);
	} else if (load->mode == CONNECT)
		finish(load, number);
	else if (!take(load, slot))
		open_again(load, number, 1);
}

_Noreturn static void work(struct load *load)
{
	struct epoll_event events[MAX_EVENTS];

	load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	load->due_ns = now_ns();
	for (int number = 0; number < load->slot_count; number++) {
		if (load->pause_ns)
			load->idle[load->idle_count++] = number;
		else
			open_slot(load, number);
	}
	for (;;) {
		int count = epoll_wait(load->epoll_fd, events, MAX_EVENTS, load->pause_ns ? 1 : -1);

		for (int i = 0; i < count; i++)
			handle(load, (int)events[i].data.u64, events[i].events);
		if (load->pause_ns)
			open_due(load);
	}
}

static int parse_endpoints(char *text, struct sockaddr_in *endpoints)
{
	int count = 0;

	for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
		if (count == MAX_ENDPOINTS)
			die("too many endpoints");
		endpoints[count++] = parse_endpoint(word);
	}
	return count;
}

static enum mode parse_mode(const char *word)
{
	static const char *const words[] = {"connect", "requests", "bulk"};

	for (int mode = CONNECT; mode <= BULK; mode++)
		if (strcmp(word, words[mode]) == 0)
			return (enum mode)mode;
	errno = EINVAL;
	die(word);
}

/* Start the process that loads a processor; the connections are shared out evenly. */
static pid_t start_process(struct load *load, int number, int parallel)
{
	pid_t pid;

	load->number = number;
	load->slot_count = parallel / load->processes + (number < parallel % load->processes);
	load->slots = calloc((size_t)load->slot_count, sizeof *load->slots);
	load->idle = calloc((size_t)load->slot_count, sizeof *load->idle);
	load->tally = &load->shared->tallies[number];
	pid = fork();
	if (pid < 0 || !load->slots || !load->idle)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin_to(number);
		work(load);
	}
	free(load->slots);
	free(load->idle);
	return pid;
}

int main(int argc, char **argv)
{
	struct load load = {.processes = count_processors()};
	size_t size = sizeof *load.shared + (size_t)load.processes * sizeof *load.shared->tallies;
	pid_t *pids = calloc((size_t)load.processes, sizeof *pids);

	if (argc != 7 && argc != 8) {
		fputs("usage: client MODE PARALLEL WARMUP_MS WINDOW_MS SOURCES TARGETS [PER_SECOND]\n",
		      stderr);
		return 2;
	}
	if (argc == 8)
		load.pause_ns = 1000000000ull * (uint64_t)load.processes / strtoull(argv[7], NULL, 10);
	load.mode = parse_mode(argv[1]);
	load.source_count = parse_endpoints(argv[5], load.sources);
	load.target_count = parse_endpoints(argv[6], load.targets);
	load.shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (load.shared == MAP_FAILED || !pids)
		die("mmap");
	for (int number = 0; number < load.processes; number++)
		pids[number] = start_process(&load, number, atoi(argv[2]));
	sleep_ms(atol(argv[3]));
	measure_window(load.shared, load.processes, atol(argv[4]));
	end_processes(pids, load.processes);
	return 0;
}
