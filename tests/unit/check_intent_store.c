/* SPDX-License-Identifier: BSD-3-Clause */
/* The intent file on disk: what is refused, what is made, who has it. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "format.h"
#include "store.h"

static char dir[] = "/tmp/intent-store.XXXXXX";
static char path[sizeof dir + 8];
static char error[INTENT_ERROR_MAX];
static struct intent_head head, got;
static struct intent_io *io;
static int copy;

static void
setup (void)
{
  strcpy (dir + sizeof dir - 7, "XXXXXX");
  ck_assert_ptr_nonnull (mkdtemp (dir));
  snprintf (path, sizeof path, "%s/file", dir);
  head = (struct intent_head) {
    .generation = 1, .epoch = 1, .size = UINT64_C (8000) << 20,
    .granularity = 65536, .region = 1 << 20, .state = INTENT_IDLE,
    .source = "file=/disk",
  };
  error[0] = '\0';
  copy = -1;
}

/* The names that are in the directory. */
static unsigned
names (void)
{
  DIR *d = opendir (dir);
  unsigned n = 0;

  ck_assert_ptr_nonnull (d);
  while (readdir (d))
    ++n;
  closedir (d);
  return n - 2;
}

/* Nothing temporary is left. */
static void
teardown (void)
{
  unlink (path);
  ck_assert_uint_eq (names (), 0);
  ck_assert_int_eq (rmdir (dir), 0);
}

static int
use (void)
{
  return intent_store_open (path, INTENT_STORE_USE, &io, &got, &copy, error);
}

static int
look (void)
{
  return intent_store_open (path, INTENT_STORE_LOOK, &io, &got, &copy, error);
}

static void
done (void)
{
  io->ops->free (io);
}

/* It is refused, by a line that begins with the path and says why. */
static void
refused (int r, int expected, const char *why)
{
  ck_assert_msg (r == expected, "%d: %s", r, error);
  ck_assert_ptr_eq (strstr (error, path), error);
  ck_assert_msg (strstr (error, why) != NULL, "%s", error);
  ck_assert_ptr_null (strchr (error, '\n'));
}

static void
make (void)
{
  ck_assert_msg (intent_store_create (path, &head, &io, error) == 0, "%s",
                 error);
}

static void
write_file (const void *buf, size_t count)
{
  int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

  ck_assert_int_ge (fd, 0);
  ck_assert_int_eq (write (fd, buf, count), (ssize_t) count);
  close (fd);
}

/*-- making -------------------------------------------------------------*/

START_TEST (made)
{
  CLEANUP_FREE char *buf = malloc (INTENT_PAGE_SIZE);
  struct stat st;
  mode_t before = umask (0377);

  ck_assert_int_eq (intent_store_can_create (path, error), 0);
  ck_assert_uint_eq (names (), 0);
  make ();
  umask (before);
  ck_assert_uint_eq (names (), 1);
  ck_assert_int_eq (lstat (path, &st), 0);
  ck_assert_uint_eq (st.st_mode, S_IFREG | 0600);
  ck_assert_uint_eq ((uint64_t) st.st_size, intent_file_size (&head));
  ck_assert_uint_ge ((uint64_t) st.st_blocks * 512, intent_file_size (&head));
  ck_assert_int_eq (io->ops->pread (io, buf, INTENT_PAGE_SIZE,
                                    INTENT_PAGES_OFFSET), 0);
  ck_assert (!intent_page_counts (buf, head.epoch, 0));
  done ();

  ck_assert_int_eq (use (), 0);
  ck_assert_int_eq (copy, 0);
  ck_assert_uint_eq (got.generation, 1);
  ck_assert_uint_eq (got.size, head.size);
  ck_assert_str_eq (got.source, "file=/disk");
  done ();
  refused (intent_store_can_create (path, error), -EEXIST, "something");
  refused (intent_store_create (path, &head, &io, error), -EEXIST,
           "something");
  ck_assert_int_eq (use (), 0);
  done ();
}
END_TEST

/* In the current directory, and for a disk of no size. */
START_TEST (made_here)
{
  ck_assert_int_eq (chdir (dir), 0);
  head.size = 0;
  ck_assert_int_eq (intent_store_create ("file", &head, &io, error), 0);
  done ();
  ck_assert_int_eq (use (), 0);
  ck_assert_uint_eq (intent_file_size (&got), INTENT_PAGES_OFFSET);
  ck_assert_int_eq (io->ops->destroy (io), 0);
  done ();
  ck_assert_int_eq (use (), -ENOENT);
  ck_assert_int_eq (chdir ("/"), 0);
}
END_TEST

START_TEST (cannot_be_made)
{
  char long_name[400];

  snprintf (path, sizeof path, "%s/", dir);
  refused (intent_store_can_create (path, error), -EISDIR, "is a directory");
  refused (use (), -EISDIR, "is a directory");
  snprintf (path, sizeof path, "%s/a/b", dir);
  refused (intent_store_can_create (path, error), -ENOTDIR, "directory");
  refused (intent_store_create (path, &head, &io, error), -ENOTDIR,
           "No such file or directory");
  refused (use (), -ENOTDIR, "No such file or directory");
  snprintf (path, sizeof path, "%s/file", dir);

  memset (long_name, 'x', sizeof long_name);
  memcpy (long_name, dir, strlen (dir));
  long_name[strlen (dir)] = '/';
  long_name[sizeof long_name - 1] = '\0';
  ck_assert_int_eq (intent_store_can_create (long_name, error),
                    -ENAMETOOLONG);
  ck_assert_int_eq (intent_store_create (long_name, &head, &io, error),
                    -ENAMETOOLONG);
  ck_assert_ptr_nonnull (strstr (error, "File name too long"));

  ck_assert_int_eq (symlink ("nowhere", path), 0);
  refused (intent_store_can_create (path, error), -EEXIST, "something");
  refused (intent_store_create (path, &head, &io, error), -EEXIST,
           "something");
}
END_TEST

/*-- file systems -------------------------------------------------------*/

/* In the middle of a file system of that many bytes, of which nobody else sees
 * anything.  false: not allowed here.
 */
static bool
small_fs (const char *options)
{
  if (geteuid () != 0 || unshare (CLONE_NEWNS) < 0 ||
      mount ("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
      mount ("none", dir, "tmpfs", 0, options) < 0) {
    fprintf (stderr, "SKIP: no file system can be mounted here\n");
    return false;
  }
  return true;
}

START_TEST (full)
{
  CLEANUP_FREE char *buf = calloc (1, 1 << 20);
  int fd;

  if (!small_fs ("size=64k"))
    return;
  ck_assert_int_eq (intent_store_can_create (path, error), 0);
  /* Of this one it only turns out with its size. */
  head.size = UINT64_C (1) << 40;
  refused (intent_store_create (path, &head, &io, error), -ENOSPC,
           "No space left on device");
  ck_assert_uint_eq (names (), 0);

  head.size = 1 << 20;
  fd = open (path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  while (write (fd, buf, 1 << 12) > 0)
    ;
  close (fd);
  strcat (path, "2");
  refused (intent_store_can_create (path, error), -ENOSPC, "No space left");
  refused (intent_store_create (path, &head, &io, error), -ENOSPC,
           "No space left");
  ck_assert_uint_eq (names (), 1);
  ck_assert_int_eq (umount (dir), 0);
}
END_TEST

/* Once it is there it needs no more space. */
START_TEST (full_later)
{
  CLEANUP_FREE char *buf = calloc (1, 1 << 20);
  char other[sizeof path + 8];
  int fd;

  if (!small_fs ("size=128k"))
    return;
  make ();
  snprintf (other, sizeof other, "%s/other", dir);
  fd = open (other, O_WRONLY | O_CREAT | O_EXCL, 0600);
  while (write (fd, buf, 1 << 12) > 0)
    ;
  close (fd);
  memset (buf, 1, 1 << 20);
  ck_assert_int_eq (io->ops->pwrite (io, buf,
                                     (size_t) intent_file_size (&head), 0), 0);
  ck_assert_int_eq (io->ops->sync (io), 0);
  done ();
  ck_assert_int_eq (umount (dir), 0);
}
END_TEST

START_TEST (read_only)
{
  if (!small_fs ("size=128k"))
    return;
  make ();
  done ();
  ck_assert_int_eq (mount ("none", dir, "none", MS_REMOUNT | MS_RDONLY, NULL),
                    0);
  refused (use (), -EROFS, "Read-only file system");
  ck_assert_int_eq (look (), 0);
  done ();
  strcat (path, "2");
  refused (intent_store_can_create (path, error), -EROFS,
           "Read-only file system");
  refused (intent_store_create (path, &head, &io, error), -EROFS,
           "Read-only file system");
  ck_assert_int_eq (umount (dir), 0);
}
END_TEST

/*-- opening ------------------------------------------------------------*/

START_TEST (what_is_no_file)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  char other[sizeof path + 8];
  int fd;

  ck_assert_int_eq (use (), -ENOENT);
  ck_assert_int_eq (look (), -ENOENT);

  ck_assert_int_eq (mkfifo (path, 0600), 0);
  refused (use (), -EINVAL, "is a FIFO");
  refused (look (), -EINVAL, "is a FIFO");
  unlink (path);

  ck_assert_int_eq (mkdir (path, 0700), 0);
  refused (use (), -EINVAL, "is a directory");
  refused (look (), -EINVAL, "is a directory");
  rmdir (path);

  fd = socket (AF_UNIX, SOCK_STREAM, 0);
  strcpy (addr.sun_path, path);
  ck_assert_int_eq (bind (fd, (void *) &addr, sizeof addr), 0);
  refused (use (), -EINVAL, "is a socket");
  refused (look (), -EINVAL, "is a socket");
  close (fd);
  unlink (path);

  /* Not even one that leads to a good one. */
  make ();
  done ();
  snprintf (other, sizeof other, "%s.real", path);
  ck_assert_int_eq (rename (path, other), 0);
  ck_assert_int_eq (symlink (other, path), 0);
  refused (use (), -EINVAL, "is a symbolic link");
  refused (look (), -EINVAL, "is a symbolic link");
  unlink (other);
  unlink (path);

  strcpy (path, "/dev/null");
  refused (use (), -EINVAL, "is a device");
  refused (look (), -EINVAL, "is a device");
  snprintf (path, sizeof path, "%s/file", dir);
}
END_TEST

START_TEST (who_may_write)
{
  make ();
  done ();
  ck_assert_int_eq (chmod (path, 0620), 0);
  refused (use (), -EPERM, "mode 0620");
  ck_assert_int_eq (look (), 0);
  done ();
  ck_assert_int_eq (chmod (path, 0602), 0);
  refused (use (), -EPERM, "mode 0602");
  ck_assert_int_eq (chmod (path, 0644), 0);
  ck_assert_int_eq (use (), 0);
  done ();
  if (geteuid () != 0) {
    fprintf (stderr, "SKIP: owners: not root\n");
    return;
  }
  ck_assert_int_eq (chown (path, 1, 1), 0);
  /* Root may become that user. */
  ck_assert_int_eq (use (), 0);
  refused (intent_store_check_owner (io, path, error), -EPERM,
           "belongs to user 1");
  ck_assert_int_eq (seteuid (1), 0);
  ck_assert_int_eq (intent_store_check_owner (io, path, error), 0);
  ck_assert_int_eq (seteuid (0), 0);
  ck_assert_int_eq (seteuid (2), 0);
  refused (intent_store_check_owner (io, path, error), -EPERM,
           "belongs to user 1");
  ck_assert_int_eq (seteuid (0), 0);
  done ();
  ck_assert_int_eq (look (), 0);
  done ();
  ck_assert_int_eq (chmod (path, 0644), 0);
  ck_assert_int_eq (chmod (dir, 0755), 0);
  ck_assert_int_eq (seteuid (2), 0);
  ck_assert_int_eq (look (), 0);
  done ();
  ck_assert_int_eq (seteuid (0), 0);
  /* For somebody else that is root's is good. */
  ck_assert_int_eq (chown (path, 0, 0), 0);
  ck_assert_int_eq (chmod (path, 0666), 0);
  ck_assert_int_eq (chmod (dir, 0755), 0);
  ck_assert_int_eq (seteuid (1), 0);
  refused (use (), -EPERM, "mode 0666");
  ck_assert_int_eq (seteuid (0), 0);
  ck_assert_int_eq (chmod (path, 0600), 0);
  ck_assert_int_eq (seteuid (1), 0);
  refused (use (), -EACCES, "Permission denied");
  refused (look (), -EACCES, "Permission denied");
  ck_assert_int_eq (seteuid (0), 0);
}
END_TEST

/* At any length: refused, and as it was. */
START_TEST (cut_off)
{
  const size_t size = (size_t) intent_file_size (&head);
  CLEANUP_FREE char *buf = malloc (size);
  const size_t around[] = { 0, 8, 16, 88, 512, 4096, INTENT_HEADER_SIZE,
                            INTENT_PAGES_OFFSET,
                            INTENT_PAGES_OFFSET + INTENT_PAGE_SIZE, size };
  struct stat st;
  size_t i, n;
  int r;

  make ();
  ck_assert_int_eq (io->ops->pread (io, buf, size, 0), 0);
  done ();
  for (i = 0; i < sizeof around / sizeof around[0]; ++i)
    for (n = around[i] > 9 ? around[i] - 9 : 0; n < around[i] + 9; ++n) {
      ck_assert_int_eq (truncate (path, 0), 0);
      write_file (buf, n < size ? n : size);
      ck_assert_int_eq (truncate (path, (off_t) n), 0);
      r = use ();
      if (n >= size) {
        ck_assert_int_eq (r, 0);
        done ();
      }
      else
        refused (r, n < 8 ? -EINVAL : n < 123 ? -EBADMSG : -ENODATA,
                 n < 8 ? "is no intent file" : n < 123 ? "is damaged"
                 : "is cut off");
      ck_assert_int_eq (lstat (path, &st), 0);
      ck_assert_uint_eq ((size_t) st.st_size, n);
    }
}
END_TEST

START_TEST (other_contents)
{
  CLEANUP_FREE char *buf = malloc (1 << 17);
  unsigned i;

  for (i = 0; i < 1 << 17; ++i)
    buf[i] = (char) (i * 2654435761u >> 24);
  write_file (buf, 1 << 17);
  refused (use (), -EINVAL, "is no intent file: it is left alone");
  memset (buf, 0xff, 1 << 17);
  write_file (buf, 1 << 17);
  refused (use (), -EINVAL, "is no intent file");
  /* All hole, and larger than could be read into memory. */
  ck_assert_int_eq (truncate (path, 0), 0);
  ck_assert_int_eq (truncate (path, (off_t) 1 << 42), 0);
  refused (use (), -EINVAL, "is no intent file");
  memcpy (buf, "NBDmirW\n", 8);
  write_file (buf, 1 << 17);
  refused (use (), -EBADMSG, "is damaged");
  refused (look (), -EBADMSG, "is damaged");
}
END_TEST

START_TEST (long_paths)
{
  char file[600];

  memset (file, 'y', sizeof file - 1);
  file[0] = '/';
  file[10] = '\n';
  file[sizeof file - 1] = '\0';
  ck_assert_int_eq (intent_store_open (file, INTENT_STORE_USE, &io, &got,
                                       &copy, error), -ENAMETOOLONG);
  ck_assert_ptr_nonnull (strstr (error, "...: cannot be opened: File name too"
                                 " long"));
  ck_assert_ptr_null (strchr (error, '\n'));
}
END_TEST

/*-- the lock -----------------------------------------------------------*/

START_TEST (two_users)
{
  struct intent_io *first;

  make ();
  first = io;
  refused (use (), -EBUSY, "is in use by another nbdkit");
  ck_assert_int_eq (look (), 0);
  ck_assert_int_eq (io->ops->pwrite (io, "x", 1, 0), -EBADF);
  ck_assert_int_eq (io->ops->sync (io), -EBADF);
  ck_assert_int_eq (io->ops->destroy (io), -EBADF);
  done ();
  refused (use (), -EBUSY, "is in use by another nbdkit");
  first->ops->free (first);
  ck_assert_int_eq (use (), 0);
  first = io;
  refused (use (), -EBUSY, "is in use by another nbdkit");
  first->ops->free (first);
}
END_TEST

/* nbdkit opens it, forks, and the parent exits: the child has it. */
START_TEST (over_a_fork)
{
  int up[2], down[2], status;
  char c;
  pid_t pid;

  make ();
  ck_assert_int_eq (pipe (up), 0);
  ck_assert_int_eq (pipe (down), 0);
  pid = fork ();
  ck_assert_int_ge (pid, 0);
  if (pid == 0) {
    close (down[1]);
    if (read (down[0], &c, 1) != 1 || /* the parent has let go of it */
        io->ops->pwrite (io, "N", 1, 0) != 0)
      _exit (1);
    if (write (up[1], "x", 1) != 1 || read (down[0], &c, 1) != 0)
      _exit (2);
    _exit (0);
  }
  close (down[0]);
  close (up[1]);
  done ();
  refused (use (), -EBUSY, "is in use by another nbdkit");
  ck_assert_int_eq (write (down[1], "x", 1), 1);
  ck_assert_int_eq (read (up[0], &c, 1), 1);
  refused (use (), -EBUSY, "is in use by another nbdkit");
  close (down[1]);
  ck_assert_int_eq (waitpid (pid, &status, 0), pid);
  ck_assert_int_eq (status, 0);
  ck_assert_int_eq (use (), 0);
  done ();
  close (up[0]);
}
END_TEST

/*-- the table ----------------------------------------------------------*/

START_TEST (reading_and_writing)
{
  char buf[16];

  make ();
  ck_assert_int_eq (io->ops->pwrite (io, "0123456789", 10, 33000), 0);
  ck_assert_int_eq (io->ops->sync (io), 0);
  ck_assert_int_eq (io->ops->pread (io, buf, 4, 33003), 0);
  ck_assert_int_eq (memcmp (buf, "3456", 4), 0);
  ck_assert_int_eq (io->ops->pread (io, buf, 2, intent_file_size (&head) - 1),
                    -EIO);
  /* Who looks sees the same. */
  {
    struct intent_io *first = io;

    ck_assert_int_eq (look (), 0);
    ck_assert_int_eq (io->ops->pread (io, buf, 4, 33006), 0);
    ck_assert_int_eq (memcmp (buf, "6789", 4), 0);
    done ();
    io = first;
  }
  done ();
}
END_TEST

START_TEST (destroying)
{
  char other[sizeof path + 8];
  char buf[8];

  snprintf (other, sizeof other, "%s.old", path);
  make ();
  ck_assert_int_eq (io->ops->check (io), 0);
  ck_assert_int_eq (io->ops->destroy (io), 0);
  ck_assert_int_eq (io->ops->check (io), -ENOENT);
  ck_assert_uint_eq (names (), 0);
  ck_assert_int_eq (io->ops->pread (io, buf, 8, 0), 0);
  ck_assert_int_eq (io->ops->destroy (io), 0);
  done ();

  /* Another one by that name stays, and it is not told to be gone. */
  make ();
  ck_assert_int_eq (rename (path, other), 0);
  ck_assert_int_eq (io->ops->check (io), -ENOENT);
  write_file ("mine", 4);
  ck_assert_int_eq (io->ops->check (io), -ESTALE);
  ck_assert_int_eq (io->ops->destroy (io), -ESTALE);
  ck_assert_uint_eq (names (), 2);
  done ();
  unlink (other);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("intent store");
  TCase *tc = tcase_create ("all");
  SRunner *sr;
  int failed;

  tcase_set_timeout (tc, 60);
  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_add_test (tc, made);
  tcase_add_test (tc, made_here);
  tcase_add_test (tc, cannot_be_made);
  tcase_add_test (tc, full);
  tcase_add_test (tc, full_later);
  tcase_add_test (tc, read_only);
  tcase_add_test (tc, what_is_no_file);
  tcase_add_test (tc, who_may_write);
  tcase_add_test (tc, cut_off);
  tcase_add_test (tc, other_contents);
  tcase_add_test (tc, long_paths);
  tcase_add_test (tc, two_users);
  tcase_add_test (tc, over_a_fork);
  tcase_add_test (tc, reading_and_writing);
  tcase_add_test (tc, destroying);
  suite_add_tcase (suite, tc);
  sr = srunner_create (suite);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
