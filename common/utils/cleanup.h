/* SPDX-License-Identifier: BSD-3-Clause */
/* Release of locals at the end of their scope, by GCC's cleanup attribute. */

#ifndef MIRROR_CLEANUP_H
#define MIRROR_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#include "sync.h"

static inline void
cleanup_free (void *ptr)
{
  free (*(void **) ptr);
}

static inline void
cleanup_close (int *fd)
{
  if (*fd >= 0)
    close (*fd);
}

static inline void
cleanup_unlock (struct mutex **m)
{
  mutex_unlock (*m);
}

#define CLEANUP_FREE __attribute__ ((__cleanup__ (cleanup_free)))
#define CLEANUP_CLOSE __attribute__ ((__cleanup__ (cleanup_close)))

#define UNIQUE_NAME_2(a, b) a##b
#define UNIQUE_NAME_1(a, b) UNIQUE_NAME_2 (a, b)
#define UNIQUE_NAME(a) UNIQUE_NAME_1 (a, __COUNTER__)

/* Hold a mutex until the end of the enclosing scope. */
#define ACQUIRE_LOCK_FOR_CURRENT_SCOPE(m)                               \
  __attribute__ ((__cleanup__ (cleanup_unlock), __unused__))            \
  struct mutex *UNIQUE_NAME (_lock) = (mutex_lock (m), (m))

#endif /* MIRROR_CLEANUP_H */
