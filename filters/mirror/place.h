/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the source is, as far as the plugin's parameters tell: so that the
 * source itself can be refused as target, and an intent file of another pair of
 * disks as this one's.
 *
 * Servers are only known of plugins that name them as nbdkit's nbd plugin does.
 * No connecting, no name resolution: two names of one host are two hosts.
 */

#ifndef MIRROR_PLACE_H
#define MIRROR_PLACE_H

#include <stdbool.h>

enum place_key {
  PLACE_URI, PLACE_SOCKET, PLACE_HOSTNAME, PLACE_PORT, PLACE_VSOCK,
  PLACE_EXPORT, PLACE_FILE, PLACE_KEYS
};

/* All zero: nothing is known.  Not thread-safe while it is noted. */
struct place {
  char *value[PLACE_KEYS];      /* NULL, or paths absolute, else as given;
                                 * files: all that were given, a line each */
  char *dir;                    /* where it was noted */
};

/* Call it for every parameter that goes to the plugin, in the directory in
 * which the plugin will look for files.  Other keys are ignored; of a key
 * given twice the last counts, but for file.  0 or -ENOMEM.
 */
extern int place_note (struct place *place, const char *key,
                       const char *value);
extern void place_clear (struct place *place);

/* Does this URI name the source: the same Unix socket (also by another path,
 * as long as both exist), or the same host, port and export?  Then, and when
 * out of memory, true and one line in error (TARGET_ERROR_MAX bytes).
 */
extern bool place_is_target (const struct place *place, const char *uri,
                             char *error);

/* The source in one line of text, to be freed: "KEY=VALUE ...", without any of
 * them "".  The same for two spellings of one server, where that is easy to
 * see.  export: mirror-export, or NULL.  NULL when out of memory.
 */
extern char *place_identity (const struct place *place, const char *export);

/* Do these two URIs name one disk, TLS or not?  Only if there is no doubt. */
extern bool place_same_uri (const char *a, const char *b);

#endif /* MIRROR_PLACE_H */
