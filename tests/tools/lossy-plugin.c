/* SPDX-License-Identifier: BSD-3-Clause */
/* An nbdkit plugin: a disk with a volatile cache, and the power switch of it.
 *
 *   nbdkit lossy-plugin.so file=FILE control=SOCKET [flush-delay=MS]
 *
 * FILE holds what is durable.  What is written, zeroed or trimmed is kept in
 * memory until a flush that began after it had ended; FUA makes that request
 * durable and nothing else.  The control socket takes one command a line, and
 * answers "ok" and maybe numbers, or "error TEXT":
 *
 *   power-loss SEED        FILE becomes what a loss of power leaves of it, and
 *                          nbdkit is gone (SIGKILL, after the answer)
 *   images N SEED PREFIX   write what power losses of this moment might leave
 *                          to PREFIX.0 ... PREFIX.N-1; 0 is what power-loss
 *                          with the same seed would leave
 *   fail-flush N           the next N flushes fail, and what they should have
 *                          made durable never will be, as in a kernel that
 *                          drops what it could not write
 *   stats                  requests and bytes not flushed, flushes so far
 *
 * What a power loss leaves: a sector (512 bytes) has the content that it had
 * after some request, never before the last flush or FUA that covers it, and
 * each sector by itself, so requests are torn and overtake one another.  The
 * choice is the seed's, in four manners, seed modulo 4: each sector at random;
 * whole requests at random; all up to a request, which is torn; all from a
 * request on.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define SECTOR 512

/* A request that is not durable yet, or is in front of one. */
struct entry {
  uint64_t number, offset;
  uint32_t count;
  bool durable;                 /* FUA */
  bool lost;                    /* by a flush that failed */
  uint8_t *data;                /* NULL: zeroes */
};

static char *file, *control;
static unsigned flush_delay;
static int fd = -1, listener = -1;
static uint64_t size;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *now;            /* what is read: a private mapping of FILE */
static struct entry *entries;   /* the oldest first */
static size_t nr_entries, allocated;
static uint64_t next_number, flushes, fail_flushes;

static int
lossy_config (const char *key, const char *value)
{
  if (strcmp (key, "file") == 0)
    file = nbdkit_absolute_path (value);
  else if (strcmp (key, "control") == 0)
    control = nbdkit_absolute_path (value);
  else if (strcmp (key, "flush-delay") == 0)
    return nbdkit_parse_unsigned (key, value, &flush_delay);
  else {
    nbdkit_error ("%s: unknown", key);
    return -1;
  }
  return file || control ? 0 : -1;
}

static int
lossy_get_ready (void)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  struct stat st;

  if (file == NULL || control == NULL ||
      strlen (control) >= sizeof sun.sun_path) {
    nbdkit_error ("file= and control= are needed, not too long");
    return -1;
  }
  fd = open (file, O_RDWR | O_CLOEXEC);
  if (fd == -1 || fstat (fd, &st) == -1) {
    nbdkit_error ("%s: %m", file);
    return -1;
  }
  size = st.st_size;
  now = mmap (NULL, size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  strcpy (sun.sun_path, control);
  unlink (control);
  listener = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (now == MAP_FAILED || listener == -1 ||
      bind (listener, (struct sockaddr *) &sun, sizeof sun) == -1 ||
      listen (listener, 4) == -1) {
    nbdkit_error ("%s: %m", control);
    return -1;
  }
  return 0;
}

/*-- the cache; all with the lock ---------------------------------------*/

static int
write_all (int to, const uint8_t *data, size_t count, uint64_t offset)
{
  static const uint8_t zeroes[65536];
  size_t n;
  ssize_t r;

  for (; count > 0; count -= r, offset += r) {
    n = data == NULL && count > sizeof zeroes ? sizeof zeroes : count;
    r = pwrite (to, data ? data : zeroes, n, offset);
    if (r <= 0)
      return -1;
    if (data)
      data += r;
  }
  return 0;
}

static int
remember (const void *buf, uint32_t count, uint64_t offset, bool durable)
{
  struct entry *e;
  uint8_t *data = NULL;

  if (nr_entries == allocated) {
    size_t n = allocated ? 2 * allocated : 256;

    e = realloc (entries, n * sizeof *e);
    if (e == NULL)
      return -1;
    entries = e;
    allocated = n;
  }
  if (buf) {
    data = malloc (count);
    if (data == NULL)
      return -1;
    memcpy (data, buf, count);
    memcpy (now + offset, buf, count);
  }
  else
    memset (now + offset, 0, count);
  /* An abort of nbdkit is a loss of power, too. */
  if (durable && write_all (fd, buf, count, offset) == -1) {
    free (data);
    return -1;
  }
  entries[nr_entries++] = (struct entry) {
    .number = next_number++, .offset = offset, .count = count,
    .durable = durable, .data = data,
  };
  return 0;
}

/* All before that number becomes durable. */
static int
commit (uint64_t number)
{
  size_t i;
  int r = 0;

  for (i = 0; i < nr_entries && entries[i].number < number; ++i) {
    struct entry *e = &entries[i];

    if (r == 0 && !e->lost)
      r = write_all (fd, e->data, e->count, e->offset);
    free (e->data);
  }
  nr_entries -= i;
  memmove (entries, entries + i, nr_entries * sizeof *entries);
  return r;
}

static void
lose (uint64_t number)
{
  size_t i;

  for (i = 0; i < nr_entries && entries[i].number < number; ++i)
    entries[i].lost = !entries[i].durable;
}

/*-- requests -----------------------------------------------------------*/

static void *
lossy_open (int readonly)
{
  (void) readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
lossy_get_size (void *handle)
{
  (void) handle;
  return size;
}

static int
yes (void *handle)
{
  (void) handle;
  return 1;
}

static int
native_fua (void *handle)
{
  (void) handle;
  return NBDKIT_FUA_NATIVE;
}

static int
lossy_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  (void) handle;
  (void) flags;
  pthread_mutex_lock (&lock);
  memcpy (buf, now + offset, count);
  pthread_mutex_unlock (&lock);
  return 0;
}

static int
change (const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
  int r;

  pthread_mutex_lock (&lock);
  r = remember (buf, count, offset, flags & NBDKIT_FLAG_FUA);
  pthread_mutex_unlock (&lock);
  if (r == -1) {
    nbdkit_error ("out of memory");
    nbdkit_set_error (ENOMEM);
  }
  return r;
}

static int
lossy_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
              uint32_t flags)
{
  (void) handle;
  return change (buf, count, offset, flags);
}

static int
lossy_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) handle;
  return change (NULL, count, offset, flags);
}

static int
lossy_flush (void *handle, uint32_t flags)
{
  uint64_t number;
  bool fail;
  int r = 0;

  (void) handle;
  (void) flags;
  pthread_mutex_lock (&lock);
  number = next_number;         /* what ends from here on is not covered */
  fail = fail_flushes > 0;
  fail_flushes -= fail;
  pthread_mutex_unlock (&lock);
  if (flush_delay > 0 &&
      nbdkit_nanosleep (flush_delay / 1000,
                        flush_delay % 1000 * 1000000) == -1)
    return -1;
  pthread_mutex_lock (&lock);
  flushes++;
  if (fail)
    lose (number);
  else
    r = commit (number);
  pthread_mutex_unlock (&lock);
  if (fail || r == -1) {
    nbdkit_error ("flush failed");
    nbdkit_set_error (EIO);
    return -1;
  }
  return 0;
}

/*-- power losses; all with the lock ------------------------------------*/

static uint64_t
next_random (uint64_t *state)
{
  uint64_t z = (*state += UINT64_C (0x9e3779b97f4a7c15));

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* What a seed has chosen of the requests. */
struct choice {
  unsigned manner;
  uint64_t random;
  size_t at;                    /* the request of the last two manners */
  uint32_t *last;               /* by sector: 1 + the last entry, or 0 */
  uint32_t *seen;               /* ... how many could have been it */
};

/* Does the sector get as far as entry i?  whole: what was chosen for all of
 * that request.
 */
static bool
reaches (struct choice *c, size_t i, uint64_t sector, bool whole)
{
  switch (c->manner) {
  case 0:
    return next_random (&c->random) % (++c->seen[sector] + 1) == 0;
  case 1:
    return whole;
  case 2:
    return i < c->at || (i == c->at && next_random (&c->random) % 2);
  default:
    return i >= c->at;
  }
}

static int
choose (struct choice *c, uint64_t seed)
{
  size_t i;
  uint64_t s;

  *c = (struct choice) { .manner = seed % 4, .random = seed };
  c->last = calloc (size / SECTOR + 1, sizeof *c->last);
  c->seen = calloc (size / SECTOR + 1, sizeof *c->seen);
  if (c->last == NULL || c->seen == NULL)
    return -1;
  c->at = nr_entries ? next_random (&c->random) % nr_entries : 0;
  for (i = 0; i < nr_entries; ++i) {
    const struct entry *e = &entries[i];
    bool whole = next_random (&c->random) % 2;

    for (s = e->offset / SECTOR; s <= (e->offset + e->count - 1) / SECTOR;
         ++s) {
      if (e->durable) {
        c->last[s] = i + 1;
        c->seen[s] = 0;
      }
      else if (!e->lost && reaches (c, i, s, whole))
        c->last[s] = i + 1;
    }
  }
  return 0;
}

/* Leave in `to` what is chosen. */
static int
leave (const struct choice *c, int to)
{
  uint64_t pos, end, n;
  size_t i;

  for (i = 0; i < nr_entries; ++i) {
    const struct entry *e = &entries[i];

    end = e->offset + e->count;
    for (pos = e->offset; pos < end; pos += n) {
      n = SECTOR - pos % SECTOR;
      if (n > end - pos)
        n = end - pos;
      if (i < c->last[pos / SECTOR] && !e->lost &&
          write_all (to, e->data ? e->data + (pos - e->offset) : NULL, n,
                     pos) == -1)
        return -1;
    }
  }
  return 0;
}

static int
lose_power (uint64_t seed, int to)
{
  struct choice c;
  int r = choose (&c, seed);

  if (r == 0)
    r = leave (&c, to);
  free (c.last);
  free (c.seen);
  return r;
}

static int
write_image (const char *prefix, uint64_t number, uint64_t seed)
{
  uint8_t buf[65536];
  uint64_t pos = 0;
  char *path;
  ssize_t n;
  int r = -1, to;

  if (asprintf (&path, "%s.%" PRIu64, prefix, number) == -1)
    return -1;
  to = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  free (path);
  if (to == -1)
    return -1;
  while ((n = pread (fd, buf, sizeof buf, pos)) > 0 &&
         write_all (to, buf, n, pos) == 0)
    pos += n;
  if (pos == size)
    r = lose_power (seed, to);
  return close (to) == 0 ? r : -1;
}

/*-- the control socket -------------------------------------------------*/

static void
run_command (const char *line, FILE *fp)
{
  uint64_t n, seed, i, bytes = 0;
  char prefix[256];
  int r = 0;

  if (sscanf (line, "power-loss %" SCNu64, &seed) == 1) {
    r = lose_power (seed, fd);
    fputs (r == 0 ? "ok\n" : "error cannot write\n", fp);
    fflush (fp);
    kill (getpid (), SIGKILL);
  }
  else if (sscanf (line, "images %" SCNu64 " %" SCNu64 " %255s", &n, &seed,
                   prefix) == 3) {
    for (i = 0; i < n && r == 0; ++i)
      r = write_image (prefix, i, seed + i);
    fputs (r == 0 ? "ok\n" : "error cannot write\n", fp);
  }
  else if (sscanf (line, "fail-flush %" SCNu64, &n) == 1) {
    fail_flushes = n;
    fputs ("ok\n", fp);
  }
  else if (strcmp (line, "stats\n") == 0) {
    for (i = 0; i < nr_entries; ++i)
      bytes += entries[i].count;
    fprintf (fp, "ok %zu %" PRIu64 " %" PRIu64 "\n", nr_entries, bytes,
             flushes);
  }
  else
    fputs ("error unknown command\n", fp);
}

static void *
serve (void *vp)
{
  char line[512];
  FILE *fp;
  int s;

  (void) vp;
  while ((s = accept (listener, NULL, NULL)) != -1) {
    fp = fdopen (s, "r+");
    while (fp && fgets (line, sizeof line, fp)) {
      pthread_mutex_lock (&lock);
      run_command (line, fp);
      pthread_mutex_unlock (&lock);
      fflush (fp);
    }
    if (fp)
      fclose (fp);
  }
  return NULL;
}

/* nbdkit 1.32 aborts, in the code of a connection, when that is lost with
 * requests to answer.  Not in the middle of a flush, which may have written
 * what is older than a FUA request.
 */
static void
let_flush_end (int sig)
{
  (void) sig;
  pthread_mutex_lock (&lock);
}

static int
lossy_after_fork (void)
{
  pthread_t thread;

  signal (SIGABRT, let_flush_end);
  if (pthread_create (&thread, NULL, serve, NULL) != 0 ||
      pthread_detach (thread) != 0) {
    nbdkit_error ("pthread_create failed");
    return -1;
  }
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name = "lossy",
  .config = lossy_config,
  .get_ready = lossy_get_ready,
  .after_fork = lossy_after_fork,
  .open = lossy_open,
  .get_size = lossy_get_size,
  .can_write = yes,
  .can_flush = yes,
  .can_zero = yes,
  .can_trim = yes,
  .can_multi_conn = yes,
  .can_fua = native_fua,
  .pread = lossy_pread,
  .pwrite = lossy_pwrite,
  .zero = lossy_zero,
  .trim = lossy_zero,
  .flush = lossy_flush,
};

NBDKIT_REGISTER_PLUGIN (plugin)
