/* Steps CLOCK_REALTIME of a process by the seconds in the file $CLOCK_OFFSET; the monotonic clock goes on.
 *
 * build: cc -shared -fPIC -o clock.so clock.c; use: LD_PRELOAD */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
	int result = syscall(SYS_clock_gettime, clock, now);
	int file = clock == CLOCK_REALTIME ? open(getenv("CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC) : -1;
	char text[32] = {0};
	if (file >= 0 && read(file, text, 31) > 0) now->tv_sec += atol(text);
	if (file >= 0) close(file);
	return result;
}
