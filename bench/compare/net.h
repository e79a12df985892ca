/* What client and server share: sockets, epoll, processors. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

_Noreturn static inline void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static inline int count_processors(void)
{
	return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* The n-th process stays on the n-th processor, so that rounds are alike. */
static inline void pin_to(int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	sched_setaffinity(0, sizeof set, &set);
}

/* Waits for each: what it took is counted as this process's, and nothing of it runs on. */
static inline void end_processes(const pid_t *pids, int count)
{
	for (int number = 0; number < count; number++) {
		int status;

		kill(pids[number], SIGTERM);
		waitpid(pids[number], &status, 0);
		if (!WIFSIGNALED(status))
			exit(1); /* it has said why */
	}
}

static inline struct sockaddr_in parse_endpoint(const char *text)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	char host[32] = "";
	unsigned port = 0;

	if (sscanf(text, "%31[0-9.]:%u", host, &port) != 2 || port > 65535 ||
	    inet_pton(AF_INET, host, &address.sin_addr) != 1) {
		errno = EINVAL;
		die(text);
	}
	address.sin_port = htons((uint16_t)port);
	return address;
}

static inline void set_no_delay(int fd)
{
	int yes = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static inline void watch(int epoll_fd, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
		die("epoll_ctl");
}
