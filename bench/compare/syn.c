/* Raw SYNs: each the first packet of a connection, and nothing ever answers one.
 *
 *     syn COUNT SEED SOURCE_NETWORK ADDRESS FIRST_PORT PORTS
 *
 * Sources are of SOURCE_NETWORK's /8 at random, ports of the destination too. Prints how long
 * sending took, in nanoseconds: a virtual Ethernet device carries a packet all the way to its end
 * before it takes the next one.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t state;

static uint32_t pick(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32);
}

static uint32_t add(uint32_t sum, const void *data, size_t size)
{
	const uint16_t *words = data;

	for (size_t i = 0; i < size / 2; i++)
		sum += words[i];
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 7) {
		fprintf(stderr, "syn COUNT SEED SOURCE_NETWORK ADDRESS FIRST_PORT PORTS\n");
		return 2;
	}
	int count = atoi(argv[1]), first = atoi(argv[5]), ports = atoi(argv[6]), one = 1;
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct in_addr network;
	struct { struct iphdr ip; struct tcphdr tcp; } packet = { 0 };
	int raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

	state = strtoull(argv[2], NULL, 10) * 2654435761u + 88172645463325252u;
	if (raw < 0 || setsockopt(raw, IPPROTO_IP, IP_HDRINCL, &one, sizeof(one))) {
		perror("socket");
		return 1;
	}
	inet_pton(AF_INET, argv[3], &network);
	inet_pton(AF_INET, argv[4], &to.sin_addr);
	packet.ip.version = 4;
	packet.ip.ihl = 5;
	packet.ip.ttl = 64;
	packet.ip.protocol = IPPROTO_TCP;
	packet.ip.tot_len = htons(sizeof(packet));
	packet.ip.daddr = to.sin_addr.s_addr;
	packet.tcp.doff = 5;
	packet.tcp.syn = 1;
	packet.tcp.window = htons(64240);

	uint64_t began = now_ns();
	for (int i = 0; i < count; i++) {
		packet.ip.saddr = htonl((ntohl(network.s_addr) & 0xff000000) | (pick() & 0xfffffe) | 1);
		packet.tcp.source = htons((uint16_t)(1024 + pick() % 64000));
		packet.tcp.dest = htons((uint16_t)(first + pick() % (uint32_t)ports));
		packet.tcp.seq = pick();
		packet.tcp.check = 0;
		uint16_t size = htons(sizeof(packet.tcp)), protocol = htons(IPPROTO_TCP);
		uint32_t sum = add(0, &packet.ip.saddr, 8);
		sum = add(add(sum, &size, 2), &protocol, 2);
		packet.tcp.check = fold(add(sum, &packet.tcp, sizeof(packet.tcp)));
		if (sendto(raw, &packet, sizeof(packet), 0, (struct sockaddr *)&to, sizeof(to)) < 0) {
			perror("sendto");
			return 1;
		}
	}
	printf("%llu\n", (unsigned long long)(now_ns() - began));
	close(raw);
	return 0;
}
