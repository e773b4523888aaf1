/*
 * clock.c
 *		The clock of a test's server, which preloads this: the machine's, and as
 *		many seconds as the file that PIGEON_CLOCK names says.  PostgreSQL has
 *		its times of day from these two functions.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *ahead;

/* Processes that are forked share what is mapped. */
static void __attribute__((constructor))
map_file(void)
{
	const char *name = getenv("PIGEON_CLOCK");
	int			file = name ? open(name, O_RDONLY) : -1;
	void	   *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, file, 0);

	if (mapped == MAP_FAILED)
		abort();
	ahead = mapped;
	close(file);
}

int
gettimeofday(struct timeval *now, void *zone)
{
	struct timespec real;

	(void) zone;
	clock_gettime(CLOCK_REALTIME, &real);
	now->tv_sec = real.tv_sec + *ahead;
	now->tv_usec = real.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *result)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	if (result)
		*result = now.tv_sec;
	return now.tv_sec;
}
