/*
 * Preloaded into nginx, this gives it a clock that the tests can move: the number of seconds in the
 * file that EDGE_CLOCK names is added to what the system's clocks say. And it ends nginx when the
 * process that has started it ends.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* How long nginx may wait before it looks at the clock again, in milliseconds. */
#define LONGEST_WAIT  20

static volatile const int64_t *offset;

__attribute__((constructor)) static void
begin(void)
{
    int          fd;
    void        *mapped;
    const char  *path;

    prctl(PR_SET_PDEATHSIG, SIGTERM);

    path = getenv("EDGE_CLOCK");
    fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd == -1) {
        return;
    }

    mapped = mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) {
        offset = mapped;
    }
}

int
clock_gettime(clockid_t id, struct timespec *now)
{
    int  rc;

    rc = syscall(SYS_clock_gettime, id, now);
    if (rc == 0 && offset && id != CLOCK_PROCESS_CPUTIME_ID && id != CLOCK_THREAD_CPUTIME_ID) {
        now->tv_sec += *offset;
    }

    return rc;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec  precise;

    (void) zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) {
        return -1;
    }

    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t
time(time_t *out)
{
    struct timespec  now;

    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return -1;
    }

    if (out) {
        *out = now.tv_sec;
    }

    return now.tv_sec;
}

int
epoll_wait(int fd, struct epoll_event *events, int size, int timeout)
{
    /* Without an end nginx waits for events only, and no clock changes that. */
    if (timeout > LONGEST_WAIT) {
        timeout = LONGEST_WAIT;
    }

    return syscall(SYS_epoll_pwait, fd, events, size, timeout, NULL, 0);
}
