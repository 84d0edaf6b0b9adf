/* SPDX-License-Identifier: BSD-3-Clause */
/* See place.h.
 *
 * Both sides are brought into one form, an endpoint, and then compared as
 * text, but for Unix sockets, whose device and inode count where there are
 * any.  TLS or not makes no difference: it is the same disk.
 */

#include <config.h>

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "errtext.h"
#include "place.h"
#include "target-uri.h"
#include "target.h"

#define DEFAULT_PORT "10809"

/*-- collecting ---------------------------------------------------------*/

static const struct {
  const char *name;
  enum place_key key;
} keys[] = {
  { "uri", PLACE_URI },
  { "socket", PLACE_SOCKET },
  { "hostname", PLACE_HOSTNAME },
  { "port", PLACE_PORT },
  { "vsock", PLACE_VSOCK },
  { "cid", PLACE_VSOCK },
  { "export", PLACE_EXPORT },
  { "file", PLACE_FILE },
};

/* Relative to dir.  To be freed; NULL when out of memory. */
static char *
absolute_path (const char *path, const char *dir)
{
  char *r;

  if (*path == '/')
    return strdup (path);
  return asprintf (&r, "%s/%s", dir, path) == -1 ? NULL : r;
}

/* The current directory; one that cannot be told is as good as none. */
static char *
current_dir (void)
{
  char *dir = getcwd (NULL, 0);

  return dir || errno == ENOMEM ? dir : strdup ("");
}

int
place_note (struct place *place, const char *key, const char *value)
{
  enum place_key k;
  char *copy, *both;
  size_t i;

  for (i = 0; i < sizeof keys / sizeof keys[0]; ++i) {
    if (strcmp (key, keys[i].name) != 0)
      continue;
    k = keys[i].key;
    if (place->dir == NULL && (place->dir = current_dir ()) == NULL)
      return -ENOMEM;
    copy = k == PLACE_SOCKET || k == PLACE_FILE
      ? absolute_path (value, place->dir) : strdup (value);
    if (copy == NULL)
      return -ENOMEM;
    if (k == PLACE_FILE && place->value[k]) {
      /* A disk of several files. */
      if (asprintf (&both, "%s\n%s", place->value[k], copy) < 0)
        both = NULL;
      free (copy);
      if (both == NULL)
        return -ENOMEM;
      copy = both;
    }
    free (place->value[k]);
    place->value[k] = copy;
  }
  return 0;
}

void
place_clear (struct place *place)
{
  size_t i;

  for (i = 0; i < PLACE_KEYS; ++i) {
    free (place->value[i]);
    place->value[i] = NULL;
  }
  free (place->dir);
  place->dir = NULL;
}

/*-- endpoints ----------------------------------------------------------*/

/* All in one form: comparable as text. */
struct endpoint {
  enum { NOWHERE, UNIX, TCP, VSOCK } kind;
  char *where;                  /* absolute path, host, CID */
  char *port, *export;          /* port: not of UNIX */
};

static void
endpoint_clear (struct endpoint *e)
{
  free (e->where);
  free (e->port);
  free (e->export);
}

#define CLEANUP_ENDPOINT __attribute__ ((__cleanup__ (endpoint_clear)))

static void
lower (char *s)
{
  for (; *s; ++s)
    *s = (char) tolower ((unsigned char) *s);
}

/* One spelling of a host: of numeric addresses the shortest, one for the
 * local host, no dot at the end.  No host is the local one, as in libnbd.
 */
static char *
one_host (const char *host)
{
  struct in6_addr in6;
  struct in_addr in;
  char text[INET6_ADDRSTRLEN];
  char *r;

  if (inet_pton (AF_INET6, host, &in6) == 1) {
    if (IN6_IS_ADDR_V4MAPPED (&in6))
      inet_ntop (AF_INET, in6.s6_addr + 12, text, sizeof text);
    else
      inet_ntop (AF_INET6, &in6, text, sizeof text);
    host = text;
  }
  else if (inet_pton (AF_INET, host, &in) == 1)
    host = inet_ntop (AF_INET, &in, text, sizeof text);
  r = strdup (host);
  if (r == NULL)
    return NULL;
  lower (r);
  if (*r && r[strlen (r) - 1] == '.')
    r[strlen (r) - 1] = '\0';
  if (*r == '\0' || strcmp (r, "127.0.0.1") == 0 || strcmp (r, "::1") == 0) {
    free (r);
    r = strdup ("localhost");
  }
  return r;
}

/* One spelling of a port, which may be the name of a service. */
static char *
one_port (const char *port)
{
  char *r;

  while (port[0] == '0' && port[1])
    port++;
  r = strdup (*port == '\0' || strcasecmp (port, "nbd") == 0
              ? DEFAULT_PORT : port);
  if (r)
    lower (r);
  return r;
}

/* What a URI, or a set of parameters, says; as it says it.  NULL: out of
 * memory.
 */
struct words {
  char *where, *port, *export;
};

/* Make an endpoint of it and free it.  Returns 0 or -ENOMEM; e is to be
 * cleared in any case.
 */
static int
make_endpoint (struct endpoint *e, int kind, const char *dir, struct words w)
{
  int r = -ENOMEM;

  e->export = w.export;
  if (w.where && w.port) {
    e->where = kind == UNIX ? absolute_path (w.where, dir)
      : kind == TCP ? one_host (w.where) : strdup (w.where);
    e->port = one_port (w.port);
  }
  if (e->where && e->port && e->export) {
    e->kind = kind == UNIX && *w.where == '\0' ? NOWHERE : kind;
    r = 0;
  }
  free (w.where);
  free (w.port);
  return r;
}

/* Host (without brackets) and port of the authority. */
static void
authority_words (const struct uri_parts *p, struct words *w)
{
  const char *host = p->host, *end = NULL, *colon;

  if (*host == '[')
    end = memchr (host, ']', (size_t) (p->path - host));
  if (end) {
    host++;
    colon = end + 1 < p->path && end[1] == ':' ? end + 1 : NULL;
  }
  else {
    colon = memchr (host, ':', (size_t) (p->path - host));
    end = colon ? colon : p->path;
  }
  w->where = uri_decode (host, end);
  w->port = uri_decode (colon ? colon + 1 : p->path, p->path);
}

/* The socket= of the query, or "". */
static void
socket_words (const struct uri_parts *p, struct words *w)
{
  const char *param, *end = p->query, *from = p->fragment, *to = from, *eq;

  while (uri_next_param (p, &param, &end))
    if (uri_param_begins (param, end, "socket=")) {
      eq = memchr (param, '=', (size_t) (end - param));
      from = eq ? eq + 1 : end;
      to = end;
    }
  w->where = uri_decode (from, to);
  w->port = strdup ("");
}

/* dir: for a relative path.  -ENOMEM, or 0, also if it is no NBD URI: then
 * e->kind is NOWHERE.
 */
static int
uri_endpoint (struct endpoint *e, const char *uri, const char *dir)
{
  static const struct {
    const char *name;
    int kind;
  } schemes[] = {
    { "nbd://", TCP }, { "nbds://", TCP },
    { "nbd+unix://", UNIX }, { "nbds+unix://", UNIX },
    { "nbd+vsock://", VSOCK }, { "nbds+vsock://", VSOCK },
  };
  struct uri_parts p = uri_split (uri);
  int kind = NOWHERE;
  struct words w;
  size_t i;

  for (i = 0; i < sizeof schemes / sizeof schemes[0]; ++i)
    if (strncasecmp (uri, schemes[i].name, strlen (schemes[i].name)) == 0)
      kind = schemes[i].kind;
  if (kind == NOWHERE)
    return 0;
  if (kind == UNIX)
    socket_words (&p, &w);
  else
    authority_words (&p, &w);
  w.export = uri_decode (p.path + (*p.path == '/'), p.query);
  return make_endpoint (e, kind, dir, w);
}

/* Of the source; as uri_endpoint. */
static int
place_endpoint (struct endpoint *e, const struct place *place)
{
  char *const *value = place->value;
  const char *export = value[PLACE_EXPORT] ? value[PLACE_EXPORT] : "";
  const char *port = value[PLACE_PORT] ? value[PLACE_PORT] : "";
  const char *where;
  int kind;

  if (value[PLACE_FILE])
    return 0;
  if (value[PLACE_URI])
    return uri_endpoint (e, value[PLACE_URI], place->dir);
  if ((where = value[PLACE_SOCKET]) != NULL)
    kind = UNIX;
  else if ((where = value[PLACE_HOSTNAME]) != NULL)
    kind = TCP;
  else if ((where = value[PLACE_VSOCK]) != NULL)
    kind = VSOCK;
  else
    return 0;
  return make_endpoint (e, kind, place->dir, (struct words) {
      strdup (where), strdup (port), strdup (export) });
}

/*-- comparing ----------------------------------------------------------*/

static bool
same_socket (const char *a, const char *b)
{
  struct stat sa, sb;

  if (stat (a, &sa) == 0 && stat (b, &sb) == 0)
    return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
  return strcmp (a, b) == 0;
}

static bool
same_endpoint (const struct endpoint *a, const struct endpoint *b)
{
  if (a->kind == NOWHERE || a->kind != b->kind
      || strcmp (a->export, b->export) != 0)
    return false;
  return a->kind == UNIX ? same_socket (a->where, b->where)
    : strcmp (a->where, b->where) == 0 && strcmp (a->port, b->port) == 0;
}

bool
place_is_target (const struct place *place, const char *uri, char *error)
{
  CLEANUP_ENDPOINT struct endpoint source = { .kind = NOWHERE };
  CLEANUP_ENDPOINT struct endpoint target = { .kind = NOWHERE };
  CLEANUP_FREE char *public = target_public_uri (uri);
  CLEANUP_FREE char *dir = current_dir ();

  if (public == NULL || dir == NULL || place_endpoint (&source, place) < 0
      || uri_endpoint (&target, uri, dir) < 0) {
    target_error (error, "the target", "%s", error_text (ENOMEM));
    return true;
  }
  if (!same_endpoint (&source, &target))
    return false;
  target_error (error, public, "the target is the source itself");
  return true;
}

bool
place_same_uri (const char *a, const char *b)
{
  CLEANUP_ENDPOINT struct endpoint ea = { .kind = NOWHERE };
  CLEANUP_ENDPOINT struct endpoint eb = { .kind = NOWHERE };

  /* Relative paths do not come here. */
  return uri_endpoint (&ea, a, "") == 0 && uri_endpoint (&eb, b, "") == 0 &&
    same_endpoint (&ea, &eb);
}

/*-- identity -----------------------------------------------------------*/

/* What would end a value, or a line, or begin such an escape, becomes %XX. */
static void
put_pair (FILE *f, const char *key, const char *value)
{
  const unsigned char *s;

  if (value == NULL || *value == '\0')
    return;
  fprintf (f, "%s%s=", ftell (f) > 0 ? " " : "", key);
  for (s = (const unsigned char *) value; *s; ++s)
    if (*s <= ' ' || *s == '%' || *s == 127)
      fprintf (f, "%%%02X", *s);
    else
      putc (*s, f);
}

static void
put_place (FILE *f, const struct place *place, const struct endpoint *e)
{
  size_t i;
  enum place_key k;

  switch (e->kind) {
  case UNIX:
    put_pair (f, "socket", e->where);
    break;
  case TCP:
    put_pair (f, "hostname", e->where);
    put_pair (f, "port", e->port);
    break;
  case VSOCK:
    put_pair (f, "vsock", e->where);
    put_pair (f, "port", e->port);
    break;
  case NOWHERE:
    /* Not a server, or not one that we know how to find: as it was given. */
    for (k = 0; k < PLACE_KEYS; ++k)
      for (i = 0; i < sizeof keys / sizeof keys[0]; ++i)
        if (keys[i].key == k) {
          put_pair (f, keys[i].name, place->value[k]);
          break;
        }
    return;
  }
  put_pair (f, "export", e->export);
}

char *
place_identity (const struct place *place, const char *export)
{
  CLEANUP_ENDPOINT struct endpoint e = { .kind = NOWHERE };
  char *text = NULL;
  size_t size;
  FILE *f;
  bool failed;

  if (place_endpoint (&e, place) < 0)
    return NULL;
  f = open_memstream (&text, &size);
  if (f == NULL)
    return NULL;
  put_place (f, place, &e);
  put_pair (f, "mirror-export", export);
  failed = ferror (f) != 0;
  if (fclose (f) != 0 || failed) {
    free (text);
    return NULL;
  }
  return text;
}
