/* SPDX-License-Identifier: BSD-3-Clause */
/* Which connections have their other end in this process? */

#include <config.h>

#include <check.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target-private.h"

/* A listening socket at any free port, or at the path in addr; *addr becomes
 * where to connect to.
 */
static int
listen_at (struct sockaddr *addr, socklen_t len)
{
  const int off = 0;
  int fd = socket (addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

  ck_assert_int_ge (fd, 0);
  if (addr->sa_family == AF_INET6)
    setsockopt (fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  ck_assert_int_eq (bind (fd, addr, len), 0);
  ck_assert_int_eq (listen (fd, 5), 0);
  if (addr->sa_family != AF_UNIX)
    ck_assert_int_eq (getsockname (fd, addr, &len), 0);
  return fd;
}

/* Connect, have it accepted by this process or by a child, and see. */
static void
check_self (int listener, const struct sockaddr *addr, socklen_t len,
            bool by_child)
{
  int fd = socket (addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int accepted = -1;
  char byte = 'x';
  pid_t child = 0;

  if (by_child) {
    child = fork ();
    ck_assert_int_ge (child, 0);
    if (child == 0) {
      close (fd);
      accepted = accept (listener, NULL, NULL);
      _exit (write (accepted, "y", 1) != 1 || read (accepted, &byte, 1) < 0);
    }
  }
  ck_assert_int_eq (connect (fd, addr, len), 0);
  if (by_child)
    ck_assert_int_eq (read (fd, &byte, 1), 1);
  else {
    ck_assert (!target_is_self (fd));   /* nobody has accepted it */
    accepted = accept (listener, NULL, NULL);
    ck_assert_int_ge (accepted, 0);
  }
  ck_assert_int_eq (target_is_self (fd), !by_child);
  if (accepted >= 0)
    close (accepted);
  ck_assert (!target_is_self (fd));
  close (fd);
  if (by_child)
    ck_assert_int_eq (waitpid (child, NULL, 0), child);
}

START_TEST (inet)
{
  struct sockaddr_in addr = {
    .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK),
  };
  int listener = listen_at ((void *) &addr, sizeof addr);

  check_self (listener, (void *) &addr, sizeof addr, false);
  check_self (listener, (void *) &addr, sizeof addr, true);
  close (listener);
}
END_TEST

/* One socket for both protocols sees IPv4 as a part of IPv6. */
START_TEST (inet6)
{
  struct sockaddr_in6 addr = { .sin6_family = AF_INET6 };
  struct sockaddr_in addr4 = {
    .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK),
  };
  int probe = socket (AF_INET6, SOCK_STREAM, 0);
  int listener;

  addr.sin6_addr = in6addr_loopback;
  if (probe < 0 || bind (probe, (void *) &addr, sizeof addr) == -1)
    return;                     /* no IPv6 here */
  close (probe);
  addr.sin6_addr = in6addr_any;
  listener = listen_at ((void *) &addr, sizeof addr);
  addr4.sin_port = addr.sin6_port;
  addr.sin6_addr = in6addr_loopback;
  check_self (listener, (void *) &addr, sizeof addr, false);
  check_self (listener, (void *) &addr, sizeof addr, true);
  check_self (listener, (void *) &addr4, sizeof addr4, false);
  check_self (listener, (void *) &addr4, sizeof addr4, true);
  close (listener);
}
END_TEST

/* Connections that this process has accepted are not the other end of every
 * connection: one to another socket of this process, and one of somebody else
 * to a socket of the same name.
 */
static void
check_others (struct sockaddr_un *addr)
{
  struct sockaddr_un addr2 = { .sun_family = AF_UNIX };
  int listener = listen_at ((void *) addr, sizeof *addr);
  int fd, accepted[2], listener2;
  pid_t child = fork ();

  ck_assert_int_ge (child, 0);
  fd = socket (AF_UNIX, SOCK_STREAM, 0);
  if (child == 0)
    _exit (connect (fd, (void *) addr, sizeof *addr));
  accepted[0] = accept (listener, NULL, NULL);
  ck_assert_int_eq (waitpid (child, NULL, 0), child);

  memcpy (addr2.sun_path, addr->sun_path, sizeof addr2.sun_path);
  addr2.sun_path[strlen (addr2.sun_path) - 1] = '2';
  listener2 = listen_at ((void *) &addr2, sizeof addr2);
  ck_assert_int_eq (connect (fd, (void *) &addr2, sizeof addr2), 0);
  accepted[1] = accept (listener2, NULL, NULL);
  ck_assert (target_is_self (fd));

  close (listener);
  unlink (addr->sun_path);
  listener = listen_at ((void *) addr, sizeof *addr);
  check_self (listener, (void *) addr, sizeof *addr, true);
  close (listener);
  close (listener2);
  close (fd);
  close (accepted[0]);
  close (accepted[1]);
  unlink (addr->sun_path);
  unlink (addr2.sun_path);
}

/* The child has the listening socket from its parent, as a daemon has. */
START_TEST (local)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  char dir[] = "/tmp/selfXXXXXX";
  int listener, pair[2];

  ck_assert_ptr_nonnull (mkdtemp (dir));
  snprintf (addr.sun_path, sizeof addr.sun_path, "%s/sock", dir);
  listener = listen_at ((void *) &addr, sizeof addr);
  check_self (listener, (void *) &addr, sizeof addr, false);
  check_self (listener, (void *) &addr, sizeof addr, true);
  close (listener);
  unlink (addr.sun_path);
  check_others (&addr);
  rmdir (dir);

  ck_assert_int_eq (socketpair (AF_UNIX, SOCK_STREAM, 0, pair), 0);
  ck_assert (target_is_self (pair[0]));
  close (pair[1]);
  ck_assert (!target_is_self (pair[0]));
  close (pair[0]);
}
END_TEST

START_TEST (no_connection)
{
  int pipe_fds[2];

  ck_assert_int_eq (pipe (pipe_fds), 0);
  ck_assert (!target_is_self (pipe_fds[0]));
  ck_assert (!target_is_self (-1));
  close (pipe_fds[0]);
  close (pipe_fds[1]);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("target_self");
  TCase *tc = tcase_create ("all");
  SRunner *sr;
  int failed;

  signal (SIGPIPE, SIG_IGN);
  tcase_set_timeout (tc, 60);
  tcase_add_test (tc, inet);
  tcase_add_test (tc, inet6);
  tcase_add_test (tc, local);
  tcase_add_test (tc, no_connection);
  suite_add_tcase (suite, tc);
  sr = srunner_create (suite);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
