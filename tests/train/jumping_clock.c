/* For LD_PRELOAD: the time of day jumps a day ahead and back ten times a second, or with
   JUMPING_CLOCK=past lies a year in the past; clocks that only run forward are left alone.
   environment.py runs trainings with it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

static int real_time(clockid_t clock, struct timespec* time) {
  static int (*real)(clockid_t, struct timespec*);
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, "clock_gettime");
  return real(clock, time);
}

static time_t jump(const struct timespec* now) {
  const char* mode = getenv("JUMPING_CLOCK");
  const time_t day = 86400;
  if (mode != NULL && strcmp(mode, "past") == 0) return -365 * day;
  return now->tv_nsec / 100000000 % 2 == 0 ? day : -day;
}

int clock_gettime(clockid_t clock, struct timespec* time) {
  const int result = real_time(clock, time);
  if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += jump(time);
  return result;
}

int gettimeofday(struct timeval* restrict time, void* restrict zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t* into) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (into != NULL) *into = now.tv_sec;
  return now.tv_sec;
}
