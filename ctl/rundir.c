/* SPDX-License-Identifier: BSD-3-Clause */
/* See rundir.h.
 *
 * Who can write in the directory can put a socket of his own in place of ours
 * and get the disk of whoever connects.  So one that is there already must be
 * ours, and ours alone.
 */

#include <config.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "client.h"
#include "ctl.h"
#include "errtext.h"
#include "rundir.h"

char *
absolute_path (const char *path)
{
  CLEANUP_FREE char *cwd = NULL;
  char *r;

  if (path[0] == '/')
    return strdup (path);
  cwd = getcwd (NULL, 0);
  if (cwd == NULL ||
      asprintf (&r, "%s%s%s", cwd, cwd[1] ? "/" : "", path) < 0)
    return NULL;
  return r;
}

/* Make it, or see that it is fit.  0, -EPERM: it is not, -errno. */
static int
make (const char *path)
{
  struct stat st;

  if (mkdir (path, 0700) == 0)
    return 0;
  if (errno != EEXIST)
    return -errno;
  if (lstat (path, &st) < 0)
    return -errno;
  if (!S_ISDIR (st.st_mode) || st.st_uid != geteuid () ||
      (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return -EPERM;
  return 0;
}

static int
find (struct rundir *dir)
{
  char private[] = "/tmp/nbdmirror.XXXXXX";
  int r;

  dir->path = client_directory ();
  if (dir->path && dir->path[0] == '/') {
    r = make (dir->path);
    if (r == 0 && access (dir->path, W_OK | X_OK) == 0)
      return 0;
    if (r == -EPERM) {
      complain ("run: %s: must be a directory that belongs to you, and that"
                " nobody else can write to", dir->path);
      return r;
    }
  }
  /* No XDG_RUNTIME_DIR, or not ours, as after su. */
  free (dir->path);
  dir->path = mkdtemp (private) ? strdup (private) : NULL;
  dir->private = dir->path != NULL;
  if (dir->path == NULL) {
    complain ("run: no directory for sockets can be made in /tmp: %s",
              error_text (errno));
    return -EIO;
  }
  return 0;
}

char *
rundir_file (struct rundir *dir, const char *suffix)
{
  char *path;

  if (dir->path == NULL && find (dir) < 0)
    return NULL;
  if (asprintf (&path, "%s/%ld.%s", dir->path, (long) getpid (), suffix) < 0) {
    complain ("run: out of memory");
    return NULL;
  }
  return path;
}

void
rundir_free (struct rundir *dir)
{
  if (dir->private)
    rmdir (dir->path);
  free (dir->path);
  dir->path = NULL;
}
