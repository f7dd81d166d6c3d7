// SPDX-License-Identifier: GPL-2.0-only
// restless DISK MIB SECONDS: writes the first MIB of the disk again and again from a buffer that
// another process changes all the time, as a guest may do with its pages. Then reads them. Succeeds
// if all can be read, whatever is there, and says how many writes there were.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 256 << 10 };

static void change(volatile unsigned char *buffer)
{
	unsigned char content = 0;
	int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;; content++)
		for (i = 0; i < PIECE; i += 512)
			buffer[i] = content;
}

int main(int argc, char **argv)
{
	int pieces = argc > 3 ? atoi(argv[2]) * ((1 << 20) / PIECE) : 0;
	int fd = pieces ? open(argv[1], O_RDWR | O_DIRECT) : -1;
	void *buffer = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	time_t end = pieces ? time(NULL) + atoi(argv[3]) : 0;
	int writes = 0;
	int unreadable = 0;
	pid_t other;
	int i;

	if (fd < 0 || buffer == MAP_FAILED)
		return 2;
	other = fork();
	if (!other)
		change(buffer);
	for (; time(NULL) < end; writes++)
		if (pwrite(fd, buffer, PIECE, (off_t)(writes % pieces) * PIECE) != PIECE)
			return 1;
	kill(other, SIGKILL);
	if (fsync(fd))
		return 1;
	for (i = 0; i < pieces; i++)
		unreadable += pread(fd, buffer, PIECE, (off_t)i * PIECE) != PIECE;
	printf("%d writes, unreadable: %d of %d\n", writes, unreadable, pieces);
	return unreadable != 0;
}
