/* SPDX-License-Identifier: BSD-3-Clause */
/* Compare two disk images byte by byte.
 *
 *   mirrorcmp [--no-holes] [--larger-second] [--quiet] FIRST SECOND
 *
 * An image is a local file or block device, or an NBD URI (anything with
 * "://" in it).  Sizes must match; with --larger-second the second image may
 * be longer and its tail is not looked at.
 *
 * A range is skipped unread only where *both* sides say that it reads as
 * zero (SEEK_DATA, base:allocation).  What an image says of itself is
 * believed, so a test of block status itself wants --no-holes.
 *
 * Exit status: 0 the same, 1 different (one line with the first and the last
 * difference and how much differs), 2 an image could not be read.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <libnbd.h>

#define SECTOR 512
#define CHUNK (UINT64_C (4) << 20)      /* a multiple of SECTOR */
#define STATUS_MAX (UINT64_C (1) << 31) /* most bytes of one block status */
#define STATE_ZERO 2                    /* NBD_STATE_ZERO of the protocol */

enum { SAME = 0, DIFFERENT = 1, TROUBLE = 2 };

struct image {
  const char *name;
  uint64_t size;
  int fd;                       /* -1 if it is an NBD export */
  struct nbd_handle *nbd;
  bool can_tell_zeroes;

  /* What was last learned: [start, end) is all zero, or may be anything. */
  uint64_t start, end;
  bool zero;
};

struct result {
  uint64_t first, last, bytes, sectors;
  uint64_t last_sector;         /* the last one counted, plus 1 */
};

static bool holes = true;

static void
fail (const struct image *im, const char *what, const char *why)
{
  fprintf (stderr, "mirrorcmp: %s: %s: %s\n", im->name, what, why);
  exit (TROUBLE);
}

static void
open_nbd (struct image *im)
{
  int64_t size;

  im->fd = -1;
  im->nbd = nbd_create ();
  if (im->nbd == NULL ||
      nbd_add_meta_context (im->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1 ||
      nbd_set_uri_allow_local_file (im->nbd, true) == -1 ||
      nbd_connect_uri (im->nbd, im->name) == -1)
    fail (im, "connect", nbd_get_error ());
  size = nbd_get_size (im->nbd);
  if (size < 0)
    fail (im, "size", nbd_get_error ());
  im->size = size;
  im->can_tell_zeroes =
    nbd_can_meta_context (im->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
}

static void
open_image (struct image *im, const char *name)
{
  off_t size;

  memset (im, 0, sizeof *im);
  im->name = name;
  if (strstr (name, "://")) {
    open_nbd (im);
    return;
  }
  im->fd = open (name, O_RDONLY | O_CLOEXEC);
  if (im->fd == -1)
    fail (im, "open", strerror (errno));
  size = lseek (im->fd, 0, SEEK_END);
  if (size == -1)
    fail (im, "size", strerror (errno));
  im->size = size;
  im->can_tell_zeroes = true;
}

static void
close_image (struct image *im)
{
  if (im->nbd) {
    nbd_shutdown (im->nbd, 0);
    nbd_close (im->nbd);
  }
  else
    close (im->fd);
}

static void
read_image (struct image *im, uint8_t *buf, size_t count, uint64_t offset)
{
  ssize_t r;

  if (im->nbd) {
    if (nbd_pread (im->nbd, buf, count, offset, 0) == -1)
      fail (im, "read", nbd_get_error ());
    return;
  }
  while (count > 0) {
    r = pread (im->fd, buf, count, offset);
    if (r == -1 && errno == EINTR)
      continue;
    if (r == -1)
      fail (im, "read", strerror (errno));
    if (r == 0)
      fail (im, "read", "unexpected end of file");
    buf += r;
    count -= r;
    offset += r;
  }
}

/* Only the first run is used: all pieces alike as the first are joined. */
static int
status_cb (void *opaque, const char *context, uint64_t offset,
           uint32_t *entries, size_t nr, int *error)
{
  struct image *im = opaque;
  uint64_t pos = offset;
  size_t i;

  (void) error;
  if (strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
    return 0;
  for (i = 0; i + 1 < nr; i += 2) {
    bool zero = (entries[i+1] & STATE_ZERO) != 0;

    if (i == 0)
      im->zero = zero;
    else if (zero != im->zero)
      break;
    pos += entries[i];
  }
  im->start = offset;
  im->end = pos;
  return 0;
}

static void
learn_nbd (struct image *im, uint64_t offset, uint64_t limit)
{
  uint64_t count = limit - offset;
  nbd_extent_callback cb = { .callback = status_cb, .user_data = im };

  if (count > STATUS_MAX)
    count = STATUS_MAX;
  im->start = im->end = offset;
  if (nbd_block_status (im->nbd, count, offset, cb, 0) == -1)
    fail (im, "block status", nbd_get_error ());
  if (im->end <= offset)
    fail (im, "block status", "the server told nothing");
}

static void
learn_file (struct image *im, uint64_t offset)
{
  off_t r = lseek (im->fd, offset, SEEK_DATA);

  im->start = offset;
  if (r == -1 && errno == ENXIO) {      /* a hole up to the end */
    im->zero = true;
    im->end = im->size;
  }
  else if (r == -1) {                   /* cannot tell */
    im->zero = false;
    im->end = im->size;
  }
  else if ((uint64_t) r > offset) {
    im->zero = true;
    im->end = r;
  }
  else {
    im->zero = false;
    r = lseek (im->fd, offset, SEEK_HOLE);
    im->end = r == -1 ? im->size : (uint64_t) r;
  }
}

/* How far from offset on does the image read as zero, and says so? */
static uint64_t
zeroes_until (struct image *im, uint64_t offset, uint64_t limit)
{
  if (!holes || !im->can_tell_zeroes)
    return offset;
  if (offset < im->start || offset >= im->end) {
    if (im->nbd)
      learn_nbd (im, offset, limit);
    else
      learn_file (im, offset);
  }
  if (!im->zero)
    return offset;
  return im->end < limit ? im->end : limit;
}

static void
compare_bytes (const uint8_t *a, const uint8_t *b, size_t count,
               uint64_t offset, struct result *res)
{
  size_t i;

  if (memcmp (a, b, count) == 0)
    return;
  for (i = 0; i < count; ++i) {
    if (a[i] == b[i])
      continue;
    if (res->bytes == 0)
      res->first = offset + i;
    res->last = offset + i;
    res->bytes++;
    if ((offset + i) / SECTOR + 1 != res->last_sector) {
      res->last_sector = (offset + i) / SECTOR + 1;
      res->sectors++;
    }
  }
}

static void
compare (struct image *a, struct image *b, uint64_t size, struct result *res)
{
  uint8_t *buf_a = malloc (CHUNK), *buf_b = malloc (CHUNK);
  uint64_t offset = 0, za, zb, n;

  if (buf_a == NULL || buf_b == NULL) {
    perror ("mirrorcmp: malloc");
    exit (TROUBLE);
  }
  while (offset < size) {
    za = zeroes_until (a, offset, size);
    zb = za > offset ? zeroes_until (b, offset, size) : offset;
    if (za > offset && zb > offset) {
      offset = za < zb ? za : zb;
      continue;
    }
    /* Up to a multiple of the chunk: then sectors are counted once. */
    n = CHUNK - offset % CHUNK;
    if (n > size - offset)
      n = size - offset;
    read_image (a, buf_a, n, offset);
    read_image (b, buf_b, n, offset);
    compare_bytes (buf_a, buf_b, n, offset, res);
    offset += n;
  }
  free (buf_a);
  free (buf_b);
}

static void
usage (void)
{
  fprintf (stderr, "usage: mirrorcmp [--no-holes] [--larger-second] "
           "[--quiet] FIRST SECOND\n");
  exit (TROUBLE);
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "larger-second", no_argument, NULL, 'l' },
    { "no-holes", no_argument, NULL, 'n' },
    { "quiet", no_argument, NULL, 'q' },
    { NULL, 0, NULL, 0 }
  };
  struct image a, b;
  struct result res = { 0 };
  bool larger = false, quiet = false;
  int c, status = SAME;

  while ((c = getopt_long (argc, argv, "lnq", options, NULL)) != -1) {
    switch (c) {
    case 'l': larger = true; break;
    case 'n': holes = false; break;
    case 'q': quiet = true; break;
    default: usage ();
    }
  }
  if (argc - optind != 2)
    usage ();
  open_image (&a, argv[optind]);
  open_image (&b, argv[optind+1]);

  if (b.size != a.size && !(larger && b.size > a.size)) {
    status = DIFFERENT;
    if (!quiet)
      printf ("mirrorcmp: sizes differ: %" PRIu64 " and %" PRIu64 "\n",
              a.size, b.size);
  }
  else {
    compare (&a, &b, a.size, &res);
    if (res.bytes > 0) {
      status = DIFFERENT;
      if (!quiet)
        printf ("mirrorcmp: first difference at %" PRIu64 ", last at %"
                PRIu64 ", %" PRIu64 " bytes in %" PRIu64 " sectors\n",
                res.first, res.last, res.bytes, res.sectors);
    }
  }
  close_image (&a);
  close_image (&b);
  if (fflush (stdout) == EOF)
    status = TROUBLE;
  return status;
}
