// SPDX-License-Identifier: GPL-2.0-only
// inject PID SYSCALL [ARGUMENT...]: one thread of the process carries out a system call, as it
// would if somebody had taken it over. An argument is a number, or a text, of which it gets the
// address. Prints what the call returned, or which signal has ended the process.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { ARGUMENTS = 6, TEXT_MAX = 128, RED_ZONE = 128 };

static void put(pid_t pid, unsigned long long address, const void *from, size_t bytes)
{
	long word;
	size_t i;

	for (i = 0; i < bytes; i += sizeof(word)) {
		memcpy(&word, (const char *)from + i, sizeof(word));
		if (ptrace(PTRACE_POKEDATA, pid, (void *)(address + i), (void *)word)) {
			perror("inject: poke");
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	static const unsigned char code[8] = {0x0f, 0x05}; /* syscall */
	struct user_regs_struct regs;
	unsigned long long text[ARGUMENTS] = {0};
	char buffer[TEXT_MAX];
	char *end;
	pid_t pid;
	int status;
	int i;

	if (argc < 3 || argc > 3 + ARGUMENTS)
		return 2;
	pid = atoi(argv[1]);
	if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) || waitpid(pid, &status, __WALL) != pid ||
	    ptrace(PTRACE_GETREGS, pid, NULL, &regs)) {
		perror("inject");
		return 2;
	}
	for (i = 3; i < argc; i++) {
		text[i - 3] = strtoull(argv[i], &end, 0);
		if (!*end)
			continue;
		memset(buffer, 0, sizeof(buffer));
		strncpy(buffer, argv[i], sizeof(buffer) - 1);
		text[i - 3] = regs.rsp - RED_ZONE - (unsigned long long)(i - 2) * TEXT_MAX;
		put(pid, text[i - 3], buffer, sizeof(buffer));
	}
	put(pid, regs.rip, code, sizeof(code));
	regs.orig_rax = -1; /* what it was at is not started again */
	regs.rax = strtoull(argv[2], NULL, 0);
	regs.rdi = text[0];
	regs.rsi = text[1];
	regs.rdx = text[2];
	regs.r10 = text[3];
	regs.r8 = text[4];
	regs.r9 = text[5];
	if (ptrace(PTRACE_SETREGS, pid, NULL, &regs) ||
	    ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) || waitpid(pid, &status, __WALL) != pid) {
		perror("inject: step");
		return 2;
	}
	if (WIFSIGNALED(status)) {
		printf("ended by %s\n", strsignal(WTERMSIG(status)));
		return 0;
	}
	if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP &&
	    !ptrace(PTRACE_GETREGS, pid, NULL, &regs))
		printf("%s\n", (long long)regs.rax < 0 ? strerror((int)-regs.rax) : "done");
	else
		printf("stopped: status %x\n", status);
	/* It cannot go on: its code is gone. */
	ptrace(PTRACE_KILL, pid, NULL, NULL);
	return 0;
}
