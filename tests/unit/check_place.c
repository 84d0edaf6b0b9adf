/* SPDX-License-Identifier: BSD-3-Clause */
/* Is the target the source? */

#include <config.h>

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "place.h"
#include "target.h"

#define MAX_WORDS 8

/* words: key, value, key, value ..., NULL. */
static bool
same (const char *const words[], const char *uri)
{
  char error[TARGET_ERROR_MAX] = "";
  struct place place = { .dir = NULL };
  bool r;
  size_t i;

  for (i = 0; words[i]; i += 2)
    ck_assert_int_eq (place_note (&place, words[i], words[i + 1]), 0);
  r = place_is_target (&place, uri, error);
  ck_assert_int_eq (r, error[0] != '\0');
  if (r) {
    ck_assert_ptr_nonnull (strstr (error, "the target is the source itself"));
    ck_assert_ptr_null (strstr (error, "user"));
  }
  place_clear (&place);
  for (i = 0; i < PLACE_KEYS; ++i)
    ck_assert_ptr_null (place.value[i]);
  ck_assert_ptr_null (place.dir);
  return r;
}

struct pair {
  const char *words[MAX_WORDS];
  const char *uri;
};

START_TEST (hosts)
{
  static const struct pair alike[] = {
    { { "hostname", "h" }, "nbd://h" },
    { { "hostname", "h" }, "nbd://h/" },
    { { "hostname", "h" }, "nbd://h:10809" },
    { { "hostname", "h" }, "nbds://user@h?tls-psk-file=x" },
    { { "hostname", "H.example.COM", "port", "1234" },
      "NBD://h.Example.com.:01234/" },
    { { "hostname", "h", "port", "nbd" }, "nbd://h" },
    { { "port", "99", "export", "a b/c", "hostname", "h" },
      "nbd://h:99/a%20b/c" },
    { { "hostname", "h", "export", "/a" }, "nbd://h//a" },
    { { "hostname", "127.0.0.1" }, "nbd://localhost/" },
    { { "hostname", "::1" }, "nbd://127.0.0.1/" },
    { { "hostname", "localhost" }, "nbd://[::1]:10809/" },
    { { "hostname", "0:0:0:0:0:0:0:1" }, "nbd:///" },
    { { "hostname", "localhost" }, "nbd://[::ffff:127.0.0.1]/" },
    { { "hostname", "2001:db8::0:5" }, "nbd://[2001:DB8::5]/" },
    { { "uri", "nbd://h/e" }, "nbd://user:pw@h:10809/e" },
    { { "uri", "nbds://h/e?tls-certificates=c" }, "nbd://h/e" },
    { { "uri", "nbd://h/e%2Ff" }, "nbd://h/e/f" },
    { { "uri", "nbd+vsock://2/e" }, "nbd+vsock://2:10809/e" },
    { { "vsock", "2", "export", "e" }, "nbd+vsock://2:10809/e" },
    { { "cid", "2", "port", "8" }, "nbd+vsock://2:8" },
    { { "hostname", "g", "hostname", "h" }, "nbd://h" },
  };
  static const struct pair different[] = {
    { { NULL }, "nbd://h" },
    { { "size", "1M" }, "nbd://h" },
    { { "hostname", "h" }, "nbd://g" },
    { { "hostname", "h" }, "nbd://h.example.com" },
    { { "hostname", "h" }, "nbd://h:10808" },
    { { "hostname", "h", "port", "10808" }, "nbd://h" },
    { { "hostname", "h" }, "nbd://h/e" },
    { { "hostname", "h", "export", "e" }, "nbd://h" },
    { { "hostname", "h", "export", "e" }, "nbd://h/E" },
    { { "hostname", "127.0.0.2" }, "nbd://localhost" },
    { { "hostname", "h", "file", "f" }, "nbd://h" },
    { { "command", "qemu-nbd", "export", "" }, "nbd:///" },
    { { "vsock", "2" }, "nbd://2" },
    { { "vsock", "2" }, "nbd+vsock://3" },
    { { "uri", "nbd+vsock://2/e" }, "nbd+vsock://2:10808/e" },
    { { "hostname", "h" }, "nbd+unix:///?socket=h" },
    { { "hostname", "h" }, "http://h" },
    { { "uri", "http://h" }, "http://h" },
    { { "uri", "" }, "" },
    { { "uri", "nbd+unix:///" }, "nbd+unix:///" },
    { { "socket", "" }, "nbd+unix:///?socket=" },
    { { "hostname", "%" }, "nbd://%25%" },
    { { "hostname", "[" }, "nbd://[" },
  };
  size_t i;

  for (i = 0; i < sizeof alike / sizeof alike[0]; ++i)
    ck_assert_msg (same (alike[i].words, alike[i].uri), "%zu: %s", i,
                   alike[i].uri);
  for (i = 0; i + 1 < sizeof different / sizeof different[0]; ++i)
    ck_assert_msg (!same (different[i].words, different[i].uri), "%zu: %s", i,
                   different[i].uri);
  /* Nonsense that is the same nonsense. */
  ck_assert (same (different[i].words, different[i].uri));
}
END_TEST

static void
make_socket (const char *path)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM, 0);

  strcpy (addr.sun_path, path);
  ck_assert_int_eq (bind (fd, (void *) &addr, sizeof addr), 0);
  close (fd);
}

/* Relative paths are those of when it was noted. */
START_TEST (sockets)
{
  char dir[] = "/tmp/placeXXXXXX", uri[200], path[100];
  struct place place = { .dir = NULL };
  char error[TARGET_ERROR_MAX];

  ck_assert_ptr_nonnull (mkdtemp (dir));
  ck_assert_int_eq (chdir (dir), 0);
  make_socket ("s");
  make_socket ("other");
  ck_assert_int_eq (symlink ("s", "link"), 0);
  snprintf (path, sizeof path, "%s/s", dir);
  snprintf (uri, sizeof uri, "nbd+unix:///e?socket=%s/link", dir);

#define WORDS(...) ((const char *const []) { __VA_ARGS__, NULL })
  ck_assert (same (WORDS ("socket", path, "export", "e"), uri));
  ck_assert (same (WORDS ("socket", "s", "export", "e"), uri));
  ck_assert (same (WORDS ("socket", "./link", "export", "e"), uri));
  ck_assert (same (WORDS ("uri", "nbd+unix:///e?socket=s"), uri));
  ck_assert (same (WORDS ("uri", "nbds+unix:///e?x=y&socket=%73"), uri));
  ck_assert (same (WORDS ("socket", "s"), "nbd+unix:///?socket=link"));
  ck_assert (same (WORDS ("socket", "gone"), "nbd+unix:///?socket=gone"));
  ck_assert (!same (WORDS ("socket", "s"), uri));
  ck_assert (!same (WORDS ("socket", "other", "export", "e"), uri));
  ck_assert (!same (WORDS ("socket", "gone", "export", "e"), uri));
  ck_assert (!same (WORDS ("socket", "gone"), "nbd+unix:///?socket=gone2"));
  ck_assert (!same (WORDS ("socket", "s", "export", "e", "file", "f"), uri));

  ck_assert_int_eq (place_note (&place, "uri", "nbd+unix:///e?socket=s"), 0);
  ck_assert_int_eq (place_note (&place, "file", "f"), 0);
  ck_assert_int_eq (chdir ("/"), 0);
  ck_assert_ptr_nonnull (strstr (place.value[PLACE_FILE], dir));
  free (place.value[PLACE_FILE]);
  place.value[PLACE_FILE] = NULL;
  ck_assert (place_is_target (&place, uri, error));
  ck_assert (!place_is_target (&place, "nbd+unix:///e?socket=s", error));
  place_clear (&place);

  ck_assert_int_eq (chdir (dir), 0);
  unlink ("s");
  unlink ("other");
  unlink ("link");
  ck_assert_int_eq (chdir ("/"), 0);
  ck_assert_int_eq (rmdir (dir), 0);
}
END_TEST

/*-- identity -----------------------------------------------------------*/

/* words, and the export of the filter, become that text. */
static void
text_is (const char *const words[], const char *export, const char *expected)
{
  struct place place = { .dir = NULL };
  char *text;
  size_t i;

  for (i = 0; words[i]; i += 2)
    ck_assert_int_eq (place_note (&place, words[i], words[i + 1]), 0);
  text = place_identity (&place, export);
  ck_assert_ptr_nonnull (text);
  ck_assert_str_eq (text, expected);
  free (text);
  place_clear (&place);
}

START_TEST (identities)
{
  ck_assert_int_eq (chdir ("/tmp"), 0);
  text_is (WORDS (NULL), NULL, "");
  text_is (WORDS ("size", "1M"), "", "");
  text_is (WORDS ("file", "disk.img"), NULL, "file=/tmp/disk.img");
  text_is (WORDS ("file", "/a b%\n"), "e", "file=/a%20b%25%0A mirror-export=e");
  text_is (WORDS ("file", "/a", "file", "/b"), NULL, "file=/a%0A/b");
  text_is (WORDS ("size", "1M"), "x y", "mirror-export=x%20y");
  text_is (WORDS ("file", "/a", "export", "e"), "m",
           "export=e file=/a mirror-export=m");
  /* Servers, in one spelling. */
  text_is (WORDS ("hostname", "H.", "export", "e"), NULL,
           "hostname=h port=10809 export=e");
  text_is (WORDS ("uri", "nbds://u:pw@H:10809/e?tls-psk-file=/x"), NULL,
           "hostname=h port=10809 export=e");
  text_is (WORDS ("uri", "nbd://h"), NULL, "hostname=h port=10809");
  text_is (WORDS ("uri", "nbd://h/"), NULL, "hostname=h port=10809");
  text_is (WORDS ("socket", "s", "export", ""), NULL, "socket=/tmp/s");
  text_is (WORDS ("uri", "nbd+unix:///?socket=/tmp/s"), NULL,
           "socket=/tmp/s");
  text_is (WORDS ("cid", "2"), NULL, "vsock=2 port=10809");
  text_is (WORDS ("uri", "http://h/x"), NULL, "uri=http://h/x");
}
END_TEST

START_TEST (same_uris)
{
  static const struct {
    const char *a, *b;
    bool same;
  } cases[] = {
    { "nbd://h", "nbd://H:10809/", true },
    { "nbd://u@h/e", "nbds://h/e?tls-certificates=/x", true },
    { "nbd://[::1]/", "nbd://localhost", true },
    { "nbd+unix:///e?socket=/nowhere", "nbd+unix:///e?socket=%2Fnowhere",
      true },
    { "nbd+vsock://2", "nbd+vsock://2:10809/", true },
    { "nbd://h", "nbd://h:10810", false },
    { "nbd://h/a", "nbd://h/b", false },
    { "nbd://h/a", "nbd://h/A", false },
    { "nbd://h", "nbd://g", false },
    { "nbd://2", "nbd+vsock://2", false },
    { "nbd+unix:///?socket=/nowhere", "nbd+unix:///?socket=/elsewhere",
      false },
    { "", "", false },
    { "http://h", "http://h", false },
  };
  size_t i;

  for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    ck_assert_msg (place_same_uri (cases[i].a, cases[i].b) == cases[i].same,
                   "%zu", i);
    ck_assert_msg (place_same_uri (cases[i].b, cases[i].a) == cases[i].same,
                   "%zu", i);
  }
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("place");
  TCase *tc = tcase_create ("all");
  SRunner *sr;
  int failed;

  tcase_add_test (tc, hosts);
  tcase_add_test (tc, sockets);
  tcase_add_test (tc, identities);
  tcase_add_test (tc, same_uris);
  suite_add_tcase (suite, tc);
  sr = srunner_create (suite);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
