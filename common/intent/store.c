/* SPDX-License-Identifier: BSD-3-Clause */
/* See store.h.
 *
 * A new file is made under a name that nobody knows, with all of its bytes
 * written, so that no later write needs space, and locked before it gets its
 * own name, so that nobody else can be faster.  If the machine fails on the way
 * there is either no file or a whole one (and maybe a left-over with a dot).
 *
 * The directory is kept open: it is what is made durable when the name comes or
 * goes, whatever is at its path by then.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "errtext.h"
#include "store.h"

#define PATH_SHOWN 200
#define TEMP_SIZE 48

struct store {
  struct intent_io io;          /* first */
  int fd;
  int dir;                      /* -1: only to look at */
  dev_t dev;
  ino_t ino;
  char name[];                  /* in dir */
};

/*-- errors -------------------------------------------------------------*/

/* Puts "PATH: " in front of the line, in printable characters.  Returns r. */
static int
say (char *error, const char *path, const char *why, int r)
{
  char *p;

  snprintf (error, INTENT_ERROR_MAX, "%.*s%s: %s", PATH_SHOWN, path,
            strlen (path) > PATH_SHOWN ? "..." : "", why);
  for (p = error; *p; ++p)
    if ((unsigned char) *p < ' ' || *p == 127)
      *p = '?';
  return r;
}

static int
say_errno (char *error, const char *path, const char *what, int err)
{
  char why[128];

  snprintf (why, sizeof why, "%s: %s", what, error_text (err));
  return say (error, path, why, -err);
}

/*-- the table ----------------------------------------------------------*/

static int
store_pread (struct intent_io *io, void *buf, size_t count, uint64_t offset)
{
  struct store *s = (struct store *) io;
  char *p = buf;
  ssize_t n;

  while (count > 0) {
    n = pread (s->fd, p, count, (off_t) offset);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? -errno : -EIO;
    p += n;
    offset += (uint64_t) n;
    count -= (size_t) n;
  }
  return 0;
}

static int
store_pwrite (struct intent_io *io, const void *buf, size_t count,
              uint64_t offset)
{
  struct store *s = (struct store *) io;
  const char *p = buf;
  ssize_t n;

  while (count > 0) {
    n = pwrite (s->fd, p, count, (off_t) offset);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? -errno : -EIO;
    p += n;
    offset += (uint64_t) n;
    count -= (size_t) n;
  }
  return 0;
}

static int
store_sync (struct intent_io *io)
{
  struct store *s = (struct store *) io;

  if (s->dir < 0)
    return -EBADF;
  return fdatasync (s->fd) < 0 ? -errno : 0;
}

static bool
is_ours (const struct store *s)
{
  struct stat st;

  return fstatat (s->dir, s->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
    st.st_dev == s->dev && st.st_ino == s->ino;
}

static int
store_check (struct intent_io *io)
{
  struct store *s = (struct store *) io;

  if (is_ours (s))
    return 0;
  if (faccessat (s->dir, s->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
    return -ESTALE;
  return -errno;
}

/* What is there under its name now might be an older copy of it, which would
 * be believed: that is not ours to remove, and the file is not gone.
 */
static int
store_destroy (struct intent_io *io)
{
  struct store *s = (struct store *) io;
  int r;

  if (s->dir < 0)
    return -EBADF;
  r = store_check (io);
  if (r == 0 && unlinkat (s->dir, s->name, 0) < 0)
    r = -errno;
  if (r < 0 && r != -ENOENT)
    return r;
  return fsync (s->dir) < 0 ? -errno : 0;
}

static void
store_free (struct intent_io *io)
{
  struct store *s = (struct store *) io;

  if (s->fd >= 0)
    close (s->fd);
  if (s->dir >= 0)
    close (s->dir);
  free (s);
}

static const struct intent_io_ops store_ops = {
  .pread = store_pread,
  .pwrite = store_pwrite,
  .sync = store_sync,
  .check = store_check,
  .destroy = store_destroy,
  .free = store_free,
};

/*-- paths --------------------------------------------------------------*/

/* A store for that path, with nothing open but its directory, if it is wanted.
 */
static int
new_store (const char *path, bool want_dir, struct store **store, char *error)
{
  const char *slash = strrchr (path, '/');
  const char *name = slash ? slash + 1 : path;
  CLEANUP_FREE char *dir = NULL;
  struct store *s;
  int r;

  if (*name == '\0' || strcmp (name, ".") == 0 || strcmp (name, "..") == 0)
    return say (error, path, "is a directory; a file is needed", -EISDIR);
  s = calloc (1, sizeof *s + strlen (name) + 1);
  dir = slash ? strndup (path, (size_t) (slash - path + 1)) : strdup (".");
  if (!s || !dir) {
    free (s);
    return say_errno (error, path, "cannot be opened", ENOMEM);
  }
  strcpy (s->name, name);
  s->io.ops = &store_ops;
  s->fd = s->dir = -1;
  if (want_dir)
    s->dir = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (want_dir && s->dir < 0) {
    r = say_errno (error, path, "its directory cannot be opened", errno);
    free (s);
    return r == -ENOENT ? -ENOTDIR : r; /* ENOENT is for the file */
  }
  *store = s;
  return 0;
}

static int
lock (int fd)
{
  struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

  if (fcntl (fd, F_OFD_SETLK, &fl) == 0)
    return 0;
  return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
}

/*-- opening ------------------------------------------------------------*/

static int
check_kind (const char *path, const struct stat *st, char *error)
{
  const char *what;

  if (S_ISREG (st->st_mode))
    return 0;
  what = S_ISLNK (st->st_mode) ? "is a symbolic link; the file itself is needed"
    : S_ISDIR (st->st_mode) ? "is a directory; a file is needed"
    : S_ISFIFO (st->st_mode) ? "is a FIFO; a regular file is needed"
    : S_ISSOCK (st->st_mode) ? "is a socket; a regular file is needed"
    : "is a device; a regular file is needed";
  return say (error, path, what, -EINVAL);
}

static int
check_owner (const char *path, const struct stat *st, char *error)
{
  char why[128];

  if (st->st_uid == geteuid () || st->st_uid == 0)
    return 0;
  snprintf (why, sizeof why, "belongs to user %u; it must belong to user %u or "
            "root", (unsigned) st->st_uid, (unsigned) geteuid ());
  return say (error, path, why, -EPERM);
}

/* Could somebody else write to it?  Root may still become the owner. */
static int
check_mode (const char *path, const struct stat *st, char *error)
{
  char why[128];

  if (geteuid () != 0 && check_owner (path, st, error) < 0)
    return -EPERM;
  if (st->st_mode & (S_IWGRP | S_IWOTH)) {
    snprintf (why, sizeof why, "may be written by others (mode %04o); chmod "
              "go-w makes it acceptable", (unsigned) (st->st_mode & 07777));
    return say (error, path, why, -EPERM);
  }
  return 0;
}

/* The kind is looked at first, since opening a device may do something; and
 * again when it is open.
 */
static int
open_file (struct store *s, const char *path, enum intent_store_how how,
           struct stat *st, char *error)
{
  const bool use = how == INTENT_STORE_USE;
  int r;

  if (lstat (path, st) < 0)
    return say_errno (error, path, "cannot be opened", errno);
  r = check_kind (path, st, error);
  if (r < 0)
    return r;
  s->fd = open (path, (use ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK |
                O_NOCTTY | O_CLOEXEC);
  if (s->fd < 0 || fstat (s->fd, st) < 0)
    return say_errno (error, path, "cannot be opened", errno);
  r = check_kind (path, st, error);
  if (r == 0 && use)
    r = check_mode (path, st, error);
  s->dev = st->st_dev;
  s->ino = st->st_ino;
  if (r < 0 || !use)
    return r;

  r = lock (s->fd);
  if (r == -EBUSY)
    return say (error, path, "is in use by another nbdkit", r);
  if (r < 0)
    return say_errno (error, path, "cannot be locked", -r);
  /* Who had it before may have removed it, and its length may be another. */
  if (!is_ours (s))
    return say (error, path, "was replaced while it was opened; try again",
                -ESTALE);
  return fstat (s->fd, st) < 0
    ? say_errno (error, path, "cannot be opened", errno) : 0;
}

static int
read_head (struct store *s, const char *path, uint64_t size,
           struct intent_head *head, int *copy, char *error)
{
  CLEANUP_FREE char *buf = calloc (1, INTENT_PAGES_OFFSET);
  char why[INTENT_ERROR_MAX];
  size_t n = size < INTENT_PAGES_OFFSET ? (size_t) size : INTENT_PAGES_OFFSET;
  int r;

  if (!buf)
    return say_errno (error, path, "cannot be read", ENOMEM);
  r = store_pread (&s->io, buf, n, 0);
  if (r < 0)
    return say_errno (error, path, "cannot be read", -r);
  r = intent_load (buf, size, head, copy, why);
  return r < 0 ? say (error, path, why, r) : 0;
}

int
intent_store_open (const char *path, enum intent_store_how how,
                   struct intent_io **io, struct intent_head *head, int *copy,
                   char *error)
{
  struct store *s;
  struct stat st;
  int r = new_store (path, how == INTENT_STORE_USE, &s, error);

  if (r < 0)
    return r;
  r = open_file (s, path, how, &st, error);
  if (r == 0)
    r = read_head (s, path, (uint64_t) st.st_size, head, copy, error);
  if (r < 0)
    store_free (&s->io);
  else
    *io = &s->io;
  return r;
}

int
intent_store_check_owner (struct intent_io *io, const char *path, char *error)
{
  struct store *s = (struct store *) io;
  struct stat st;

  if (fstat (s->fd, &st) < 0)
    return say_errno (error, path, "cannot be used", errno);
  return check_owner (path, &st, error);
}

/*-- making -------------------------------------------------------------*/

static int
make_temp (struct store *s, char *temp)
{
  uint64_t number[2];
  struct stat st;

  if (getrandom (number, sizeof number, 0) != sizeof number)
    return -errno;
  snprintf (temp, TEMP_SIZE, ".nbdkit-mirror-%016" PRIx64 "%08" PRIx32,
            number[0], (uint32_t) number[1]);
  s->fd = openat (s->dir, temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW |
                  O_CLOEXEC, 0600);
  if (s->fd < 0)
    return -errno;
  /* Whatever the umask is. */
  if (fchmod (s->fd, 0600) < 0 || fstat (s->fd, &st) < 0)
    return -errno;
  s->dev = st.st_dev;
  s->ino = st.st_ino;
  return 0;
}

static int
fill (struct store *s, const struct intent_head *head)
{
  const uint64_t size = intent_file_size (head);
  CLEANUP_FREE char *buf = calloc (1, (size_t) size);
  int r = -posix_fallocate (s->fd, 0, (off_t) size);

  if (!buf)
    r = -ENOMEM;
  if (r < 0)
    return r;
  /* A page of zeroes does not count: all of it is set. */
  intent_encode_head (head, buf);
  r = store_pwrite (&s->io, buf, (size_t) size, 0);
  if (r == 0 && fsync (s->fd) < 0)
    r = -errno;
  return r;
}

/* The temporary file gets its name, if nothing else has it. */
static int
rename_new (struct store *s, const char *temp)
{
  if (renameat2 (s->dir, temp, s->dir, s->name, RENAME_NOREPLACE) == 0)
    return 0;
  /* Not every file system can. */
  if (errno != EINVAL && errno != ENOSYS)
    return -errno;
  if (linkat (s->dir, temp, s->dir, s->name, 0) < 0)
    return -errno;
  unlinkat (s->dir, temp, 0);
  return 0;
}

static int
make (struct store *s, const char *path, const struct intent_head *head,
      char *error)
{
  char temp[TEMP_SIZE] = "";
  bool named = false;
  int r = make_temp (s, temp);

  if (r < 0) {
    r = say_errno (error, path, "cannot be made", -r);
    goto fail;
  }
  r = fill (s, head);
  if (r == 0)
    r = lock (s->fd);
  if (r < 0) {
    r = say_errno (error, path, "cannot be made", -r);
    goto fail;
  }
  r = rename_new (s, temp);
  if (r == -EEXIST)
    r = say (error, path, "cannot be made: there is something by that name",
             r);
  else if (r < 0)
    r = say_errno (error, path, "cannot be made", -r);
  named = r == 0;
  if (r == 0 && fsync (s->dir) < 0)
    r = say_errno (error, path, "its directory cannot be made durable",
                   errno);
  if (r == 0)
    return 0;

 fail:
  if (s->fd >= 0)
    unlinkat (s->dir, named ? s->name : temp, 0);
  return r;
}

int
intent_store_create (const char *path, const struct intent_head *head,
                     struct intent_io **io, char *error)
{
  struct store *s;
  int r = new_store (path, true, &s, error);

  if (r < 0)
    return r;
  r = make (s, path, head, error);
  if (r < 0)
    store_free (&s->io);
  else
    *io = &s->io;
  return r;
}

int
intent_store_can_create (const char *path, char *error)
{
  char temp[TEMP_SIZE] = "";
  struct store *s;
  struct stat st;
  int r = new_store (path, true, &s, error);

  if (r < 0)
    return r;
  if (fstatat (s->dir, s->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
    r = say (error, path, "cannot be made: there is something by that name",
             -EEXIST);
  else if (errno != ENOENT)
    r = say_errno (error, path, "cannot be made", errno);
  else {
    r = make_temp (s, temp);
    if (r == 0) {
      r = -posix_fallocate (s->fd, 0, INTENT_PAGES_OFFSET + INTENT_PAGE_SIZE);
      if (r == 0)
        r = lock (s->fd);
    }
    if (s->fd >= 0)
      unlinkat (s->dir, temp, 0);
    if (r < 0)
      r = say_errno (error, path, "cannot be made", -r);
  }
  store_free (&s->io);
  return r;
}
