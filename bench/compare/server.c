/* The backends: one process a processor, each with its own listening socket on every address.
 *
 *     server PLACEMENT ADDRESS:PORT...    serves until standard input ends; prints "ready" first
 *
 * PLACEMENT is who gets a connection: `hash`, the process that the kernel's hash of its addresses
 * and ports falls on, or `local`, that on the processor where its first packet arrives.
 *
 * What arrives is sent back, except after a first byte of 'B' (bulk): then zeros are sent until
 * the other end closes. It never closes first, so no backend keeps anything of a connection.
 */
#include "net.h"

#include <linux/filter.h>
#include <sys/prctl.h>

enum { MAX_FD = 1 << 16, MAX_EVENTS = 256, BLOCK_BYTES = 256 << 10 };

static char is_listener[MAX_FD], is_source[MAX_FD];
static char block[BLOCK_BYTES];

static void take_connections(int epoll_fd, int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		if (fd >= MAX_FD) {
			close(fd);
			continue;
		}
		set_no_delay(fd);
		is_source[fd] = 0;
		watch(epoll_fd, fd, EPOLLIN, (uint64_t)fd);
	}
}

/* Send one block, or what there is room for; 0 when the connection is over. */
static int pour(int fd)
{
	return send(fd, block, sizeof block, MSG_NOSIGNAL) >= 0 || errno == EAGAIN || errno == EINTR;
}

/* Answer what has arrived; 0 when the connection is over. */
static int answer(int epoll_fd, int fd)
{
	char data[4096];
	ssize_t size = recv(fd, data, sizeof data, 0);

	if (size < 0)
		return errno == EAGAIN || errno == EINTR;
	if (size == 0)
		return 0;
	if (data[0] == 'B') {
		struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u64 = (uint64_t)fd};

		is_source[fd] = 1;
		return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0;
	}
	/* 64 bytes on a socket that holds nothing else: never in part. */
	return send(fd, data, (size_t)size, MSG_NOSIGNAL) == size;
}

_Noreturn static void serve(int epoll_fd)
{
	struct epoll_event events[MAX_EVENTS];

	for (;;) {
		int count = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);

		for (int i = 0; i < count; i++) {
			int fd = (int)events[i].data.u64;
			int is_open = 1;

			if (is_listener[fd])
				take_connections(epoll_fd, fd);
			else if (is_source[fd])
				is_open = !(events[i].events & (EPOLLHUP | EPOLLERR | EPOLLIN)) && pour(fd);
			else
				is_open = answer(epoll_fd, fd);
			if (!is_open)
				close(fd);
		}
	}
}

/* Of the sockets at one address, let the n-th have what the n-th processor receives. */
static void choose_by_processor(int fd)
{
	struct sock_filter code[] = {
		{BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)(SKF_AD_OFF + SKF_AD_CPU)},
		{BPF_RET | BPF_A, 0, 0, 0},
	};
	struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program))
		die("SO_ATTACH_REUSEPORT_CBPF");
}

static int listen_on(const char *text, int is_local)
{
	struct sockaddr_in address = parse_endpoint(text);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes) ||
	    bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096))
		die(text);
	if (is_local)
		choose_by_processor(fd);
	return fd;
}

/* Listening begins in the parent, so that at "ready" every socket is there. */
static pid_t start_process(int number, int is_local, int count, char **endpoints)
{
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	pid_t pid;

	for (int i = 0; i < count; i++) {
		int fd = listen_on(endpoints[i], is_local);

		is_listener[fd] = 1;
		watch(epoll_fd, fd, EPOLLIN, (uint64_t)fd);
	}
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin_to(number);
		serve(epoll_fd);
	}
	for (int fd = 0; fd < MAX_FD; fd++)
		if (is_listener[fd]) {
			close(fd);
			is_listener[fd] = 0;
		}
	close(epoll_fd);
	return pid;
}

int main(int argc, char **argv)
{
	int processes = count_processors();
	pid_t *pids = calloc((size_t)processes, sizeof *pids);
	int is_local = argc > 1 && strcmp(argv[1], "local") == 0;

	if (argc < 3 || (!is_local && strcmp(argv[1], "hash") != 0)) {
		fputs("usage: server hash|local ADDRESS:PORT...\n", stderr);
		return 2;
	}
	if (!pids)
		die("calloc");
	for (int number = 0; number < processes; number++)
		pids[number] = start_process(number, is_local, argc - 2, argv + 2);
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	end_processes(pids, processes);
	return 0;
}
