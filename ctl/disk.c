/* SPDX-License-Identifier: BSD-3-Clause */
/* See disk.h.
 *
 * What is overwritten by mistake is gone, so there are several fences:
 *
 *   - A target that holds anything but zeroes needs --force.  Whether it does
 *     is asked of the file system, which knows the holes, and the rest is read.
 *   - The target must not be the source under another name.
 *   - While we run, or a server of ours, a file is locked (flock), and a block
 *     device held exclusively, which fails while it is mounted or part of
 *     something else.
 *     Of two nbdmirror on one disk the second is refused: neither would see
 *     what the clients of the other write.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "ctl.h"
#include "disk.h"
#include "errtext.h"
#include "iszero.h"
#include "rundir.h"

#define READ_BYTES (1 << 20)

/*-- names --------------------------------------------------------------*/

/* Is it a URI, of a scheme that is allowed?  1 yes, 0 it is a path, -1 after
 * a line on stderr: it is neither.
 */
static int
is_uri (const char *what, const char *name)
{
  static const char *const schemes[] = {
    "nbd://", "nbds://", "nbd+unix://", "nbds+unix://", "nbd+vsock://",
    "nbds+vsock://",
  };
  const size_t n = strspn (name, "abcdefghijklmnopqrstuvwxyz"
                           "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
  size_t i;

  for (i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
    if (strncmp (name, schemes[i], strlen (schemes[i])) == 0)
      return 1;
  if ((n > 0 && strncmp (name + n, "://", 3) == 0) ||
      strncmp (name, "nbd:", 4) == 0) {
    complain ("run: %s %s: must be a file, a block device, or an NBD URI"
              " (nbd://, nbd+unix://, nbd+vsock://); for a file of this name"
              " write ./%s", what, name, name);
    return -1;
  }
  return 0;
}

/*-- looking ------------------------------------------------------------*/

static int
look_block (struct disk *d, const char *what)
{
  off_t size;

  d->fd = open (d->path, O_RDONLY | O_EXCL | O_CLOEXEC);
  if (d->fd < 0) {
    complain ("run: %s %s: %s", what, d->name, errno == EBUSY
              ? "the block device is in use (mounted, or part of another"
              " device, or in another nbdmirror run)" : error_text (errno));
    return -1;
  }
  size = lseek (d->fd, 0, SEEK_END);
  if (size < 0) {
    complain ("run: %s %s: %s", what, d->name, error_text (errno));
    return -1;
  }
  d->size = (uint64_t) size;
  return 0;
}

static int
lock_file (struct disk *d, const char *what)
{
  if (flock (d->fd, LOCK_EX | LOCK_NB) == 0)
    return 0;
  complain ("run: %s %s: %s", what, d->name, errno == EWOULDBLOCK
            ? "the file is locked: another nbdmirror run has it"
            : error_text (errno));
  return -1;
}

static int
look_file (struct disk *d, const char *what)
{
  d->fd = open (d->path, O_RDONLY | O_CLOEXEC);
  if (d->fd < 0) {
    complain ("run: %s %s: %s", what, d->name, error_text (errno));
    return -1;
  }
  return lock_file (d, what);
}

/* Find out what it is.  One that is missing is no error. */
static int
identify (struct disk *d, const char *what, const char *name)
{
  struct stat st;
  const int uri = is_uri (what, name);

  *d = (struct disk) { .name = name, .fd = -1, .kind = DISK_URI };
  if (uri != 0)
    return uri > 0 ? 0 : -1;

  d->path = realpath (name, NULL);
  d->kind = DISK_MISSING;
  if (d->path == NULL && errno == ENOENT && name[0] != '\0' &&
      lstat (name, &st) < 0) {
    d->path = absolute_path (name);
    if (d->path)
      return 0;
  }
  if (d->path == NULL || stat (d->path, &st) < 0) {
    complain ("run: %s %s: %s", what, name, error_text (errno));
    return -1;
  }
  d->dev = S_ISBLK (st.st_mode) ? st.st_rdev : st.st_dev;
  d->ino = S_ISBLK (st.st_mode) ? 0 : st.st_ino;
  d->mode = st.st_mode;
  d->size = (uint64_t) st.st_size;
  d->kind = S_ISBLK (st.st_mode) ? DISK_BLOCK : DISK_FILE;
  if (S_ISBLK (st.st_mode) || S_ISREG (st.st_mode))
    return 0;
  complain ("run: %s %s: must be a file, a block device, or an NBD URI; it is"
            " a %s", what, name, S_ISDIR (st.st_mode) ? "directory"
            : S_ISSOCK (st.st_mode) ? "socket (nbd+unix:///?socket=PATH names"
            " the server there)" : "special file");
  return -1;
}

static int
look (struct disk *d, const char *what)
{
  if (d->kind == DISK_BLOCK)
    return look_block (d, what);
  return d->kind == DISK_FILE ? look_file (d, what) : 0;
}

int
disk_open_source (struct disk *d, const char *name)
{
  if (identify (d, "SOURCE", name) < 0)
    return -1;
  if (d->kind == DISK_MISSING) {
    complain ("run: SOURCE %s: %s", name, error_text (ENOENT));
    return -1;
  }
  return look (d, "SOURCE");
}

/* Its server would fail by it, too, but advise to serve it read-only. */
static int
check_writable (const struct disk *d)
{
  CLEANUP_CLOSE int fd = open (d->path, O_RDWR | O_CLOEXEC);
  int err = fd < 0 ? errno : 0;
  int ro = 0;

  /* A device can be opened all the same. */
  if (fd >= 0 && d->kind == DISK_BLOCK && ioctl (fd, BLKROGET, &ro) == 0 &&
      ro != 0)
    err = EROFS;
  if (err == 0)
    return 0;
  complain ("run: TARGET %s: cannot be written to: %s", d->name,
            error_text (err));
  return -1;
}

int
disk_open_target (struct disk *d, const char *name, const struct disk *source)
{
  if (identify (d, "TARGET", name) < 0)
    return -1;
  if ((d->kind == DISK_FILE || d->kind == DISK_BLOCK) &&
      d->kind == source->kind && d->dev == source->dev &&
      d->ino == source->ino) {
    complain ("run: TARGET %s: is the source itself", name);
    return -1;
  }
  if (look (d, "TARGET") < 0)
    return -1;
  return d->kind == DISK_FILE || d->kind == DISK_BLOCK ? check_writable (d) : 0;
}

/*-- is it all zero? ----------------------------------------------------*/

/* Signals that end us are blocked while we read. */
static bool
is_interrupted (void)
{
  sigset_t set;

  return sigpending (&set) == 0 &&
    (sigismember (&set, SIGINT) == 1 || sigismember (&set, SIGTERM) == 1 ||
     sigismember (&set, SIGHUP) == 1);
}

/* Read [start, end).  1 all zero, 0 not, -errno. */
static int
range_is_zero (int fd, off_t start, off_t end)
{
  CLEANUP_FREE char *buf = malloc (READ_BYTES);
  ssize_t n;

  if (buf == NULL)
    return -ENOMEM;
  while (start < end) {
    n = pread (fd, buf, end - start < READ_BYTES ? (size_t) (end - start)
               : READ_BYTES, start);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -errno;
    if (n == 0)                 /* it has become shorter */
      break;
    if (is_interrupted ())
      return -EINTR;
    if (!is_zero (buf, (size_t) n))
      return 0;
    start += n;
  }
  return 1;
}

/* 1 all zero, 0 not, -errno. */
static int
disk_is_zero (const struct disk *d)
{
  const off_t size = (off_t) d->size;
  off_t at = 0, data, hole;
  int r;

  while (at < size) {
    data = lseek (d->fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO)     /* nothing but a hole is left */
      return 1;
    hole = data < 0 ? -1 : lseek (d->fd, data, SEEK_HOLE);
    if (hole < 0) {             /* it does not tell: read everything */
      data = at;
      hole = size;
    }
    r = range_is_zero (d->fd, data, hole);
    if (r <= 0)
      return r;
    at = hole;
  }
  return 1;
}

/*-- making it fit ------------------------------------------------------*/

static int
refuse (const struct disk *d, const char *why)
{
  complain ("run: TARGET %s: %s", d->name, why);
  return -1;
}

/* A crash must not leave a file that is shorter than it was said to be. */
static int
resize (struct disk *d, uint64_t size)
{
  CLEANUP_CLOSE int fd = open (d->path, O_WRONLY | O_CLOEXEC);

  if (fd < 0 || ftruncate (fd, (off_t) size) < 0 || fsync (fd) < 0)
    return refuse (d, error_text (errno));
  d->size = size;
  return 0;
}

static int
create (struct disk *d, uint64_t size, mode_t mode)
{
  CLEANUP_FREE char *real = NULL;

  d->fd = open (d->path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (d->fd < 0)
    return refuse (d, error_text (errno));
  d->created = true;
  d->kind = DISK_FILE;
  if (lock_file (d, "TARGET") < 0)
    return -1;
  real = realpath (d->path, NULL);
  if (real) {
    free (d->path);
    d->path = real;
    real = NULL;
  }
  return resize (d, size);
}

int
disk_prepare (struct disk *d, uint64_t size, mode_t mode, bool overwrite)
{
  int r;

  if (d->kind == DISK_MISSING)
    return create (d, size, mode);
  if (d->kind == DISK_BLOCK && d->size < size) {
    complain ("run: TARGET %s: has %" PRIu64 " bytes, the source %" PRIu64
              "; it must be as large", d->name, d->size, size);
    return -1;
  }
  if (!overwrite) {
    r = disk_is_zero (d);
    if (r < 0)
      return refuse (d, error_text (-r));
    if (r == 0)
      return refuse (d, "has data in it; it is overwritten only with"
                     " --force");
  }
  return d->size < size ? resize (d, size) : 0;
}

void
disk_close (struct disk *d, bool unwanted)
{
  if (unwanted && d->created)
    unlink (d->path);
  if (d->fd >= 0)
    close (d->fd);
  free (d->path);
  d->path = NULL;
  d->fd = -1;
}
