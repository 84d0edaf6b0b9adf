/* SPDX-License-Identifier: BSD-3-Clause */
/* The control socket against whatever clients may send: an entry for
 * libFuzzer, also driven by replay.c.
 *
 * An input is what three clients send.  Some bytes, which are as malformed
 * as their neighbours are for the server, are orders for us:
 *
 *   1c   the next bytes are of the next client
 *   1d   the client hangs up, with whatever has not been read, and comes again
 *   1e   wait until the server has taken in all from this client
 *   1f   wait until the job is ready or has ended (or some milliseconds)
 *
 * All goes through the socket and the server's own thread, as in life.  What
 * must hold: every line is QMP, within its limits; nothing but errors before
 * the negotiation; and all clients are served to their end, in time.
 */

#include <config.h>

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "qmp.h"
#include "sync.h"
#include "world.h"

#define PEERS 3
#define SETTLE_NS UINT64_C (30000000)
#define TAKE_IN_NS UINT64_C (30000000)
#define PATIENCE_NS UINT64_C (100000000)        /* then cancel the job */
#define END_NS UINT64_C (30000000000)           /* then it hangs */

#define CHECK(cond, what)                                       \
  do {                                                          \
    if (!(cond)) {                                              \
      fprintf (stderr, "fuzz: %s (%s)\n", what, #cond);         \
      abort ();                                                 \
    }                                                           \
  } while (0)

#define CHECK_LINE(p, cond, what)                                       \
  do {                                                                  \
    if (!(cond))                                                        \
      fprintf (stderr, "fuzz: %.*s", (int) (p)->length, (p)->line);     \
    CHECK (cond, what);                                                 \
  } while (0)

struct peer {
  int fd;
  bool open, greeted, negotiated;
  char line[QMP_MAX_LINE + 1];  /* what has come of the next one */
  size_t length;
};

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static struct world *world;
static char dir[] = "/tmp/fuzz-qmp.XXXXXX";
static char path[sizeof dir + 8];
static struct peer peers[PEERS];
static bool left;               /* a command may go on without its client */

static uint64_t
now_ns (void)
{
  return clock_monotonic.now_ns (&clock_monotonic);
}

/*-- what the server sends ----------------------------------------------*/

static void
check_error (json_t *error)
{
  const char *class = json_string_value (json_object_get (error, "class"));
  const char *desc = json_string_value (json_object_get (error, "desc"));

  CHECK (class && desc && desc[0], "an error without class or text");
  CHECK (strcmp (class, "GenericError") == 0 ||
         strcmp (class, "CommandNotFound") == 0 ||
         strcmp (class, "DeviceNotActive") == 0, "an unknown class");
  for (; *desc; desc++)
    CHECK ((unsigned char) *desc >= ' ' && *desc != 127,
           "a control character in an error text");
}

static void
check_message (struct peer *p, json_t *m)
{
  json_t *result = json_object_get (m, "return");
  json_t *error = json_object_get (m, "error");

  if (!p->greeted) {
    CHECK (json_object_get (m, "QMP"), "no greeting");
    p->greeted = true;
  }
  else if (json_object_get (m, "event")) {
    CHECK (p->negotiated, "an event before the negotiation");
    CHECK (json_is_object (json_object_get (m, "data")) &&
           json_is_object (json_object_get (m, "timestamp")), "a bad event");
  }
  else {
    CHECK (!result != !error, "neither an answer nor an error, or both");
    if (error)
      check_error (error);
    else
      p->negotiated = true;     /* the first that can succeed */
  }
}

/* line has length bytes and ends with a newline. */
static void
check_line (struct peer *p)
{
  json_t *m;
  size_t i;

  CHECK (p->length >= 2 && p->line[p->length - 2] == '\r', "no CR LF");
  for (i = 0; i < p->length - 2; i++)
    CHECK_LINE (p, p->line[i] >= ' ' && p->line[i] <= 127, "not ASCII");
  p->line[p->length] = '\0';
  m = json_loads (p->line, JSON_REJECT_DUPLICATES, NULL);
  CHECK_LINE (p, json_is_object (m), "not JSON");
  check_message (p, m);
  json_decref (m);
  p->length = 0;
}

/* Take what is there. */
static void
hear (struct peer *p)
{
  char buf[4096];
  ssize_t n, i;

  while (p->open) {
    n = recv (p->fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == EAGAIN)
      return;
    if (n <= 0) {
      CHECK (n == 0 || errno == ECONNRESET, "recv");
      CHECK (n < 0 || p->length == 0, "the last line is cut off");
      close (p->fd);
      p->open = false;
    }
    for (i = 0; i < n; i++) {
      CHECK (p->length < QMP_MAX_LINE, "a line is too long");
      p->line[p->length++] = buf[i];
      if (buf[i] == '\n')
        check_line (p);
    }
  }
}

/*-- what clients do ----------------------------------------------------*/

static void
come (struct peer *p)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };

  memset (p, 0, sizeof *p);
  strcpy (sun.sun_path, path);
  p->fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK (p->fd >= 0, "socket");
  /* libFuzzer has a timer. */
  while (connect (p->fd, (struct sockaddr *) &sun, sizeof sun) != 0)
    CHECK (errno == EINTR, strerror (errno));
  p->open = true;
}

static void
hang_up (struct peer *p)
{
  if (p->open)
    close (p->fd);
  left = true;
  come (p);
}

/* What does not fit is lost: the server need not read from one who waits. */
static void
say (struct peer *p, const uint8_t *data, size_t count)
{
  ssize_t n;

  while (p->open && count > 0) {
    n = send (p->fd, data, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
      return;
    data += n;
    count -= n;
  }
}

static void
wait_taken_in (struct peer *p)
{
  const uint64_t deadline = now_ns () + TAKE_IN_NS;
  struct pollfd pfd = { .fd = p->fd, .events = POLLIN };
  int n = 1;

  while (p->open && now_ns () < deadline &&
         ioctl (p->fd, SIOCOUTQ, &n) == 0 && n > 0) {
    poll (&pfd, 1, 1);
    hear (p);
  }
}

static bool
hear_all (void)
{
  bool open = false;
  unsigned i;

  for (i = 0; i < PEERS; i++) {
    hear (&peers[i]);
    open |= peers[i].open;
  }
  return open;
}

/* Nothing more will be said: the server answers everything, and hangs up. */
static void
wait_end (void)
{
  const uint64_t begin = now_ns ();
  struct pollfd fds[PEERS];
  unsigned i;

  for (i = 0; i < PEERS; i++)
    if (peers[i].open)
      shutdown (peers[i].fd, SHUT_WR);
  while (hear_all ()) {
    for (i = 0; i < PEERS; i++)
      fds[i] = (struct pollfd) { .fd = peers[i].open ? peers[i].fd : -1,
                                 .events = POLLIN };
    poll (fds, PEERS, 20);
    if (now_ns () - begin > PATIENCE_NS)
      world_cancel (world);
    CHECK (now_ns () - begin < END_NS, "the server hangs");
  }
}

/*-- entry --------------------------------------------------------------*/

static void
clean_up (void)
{
  if (world)
    world_free (world);
  rmdir (dir);
}

static void
prepare (void)
{
  if (path[0] == '\0') {
    CHECK (mkdtemp (dir) != NULL, "mkdtemp");
    snprintf (path, sizeof path, "%s/qmp", dir);
    atexit (clean_up);
  }
  if (world == NULL)
    world = world_new (path);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct peer *p = peers;
  size_t n;
  unsigned i;

  prepare ();
  for (i = 0; i < PEERS; i++)
    come (&peers[i]);
  while (size > 0) {
    for (n = 0; n < size && (data[n] < 0x1c || data[n] > 0x1f); n++)
      ;
    say (p, data, n);
    if (n < size) {
      switch (data[n++]) {
      case 0x1c: p = p == peers + PEERS - 1 ? peers : p + 1; break;
      case 0x1d: hang_up (p); break;
      case 0x1e: wait_taken_in (p); break;
      case 0x1f: world_settle (world, SETTLE_NS); break;
      }
    }
    data += n;
    size -= n;
  }
  wait_end ();
  if (left || !world_is_new (world)) {
    world_free (world);
    world = NULL;
    left = false;
  }
  return 0;
}
