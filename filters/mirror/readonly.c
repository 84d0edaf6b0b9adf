/* SPDX-License-Identifier: BSD-3-Clause */
/* See readonly.h.
 *
 * nbdkit tells a filter of its option -r only when a client comes, and the
 * mirror has its source open before that.  So its command line is read as it
 * reads it: options may stand anywhere, and letters in one word.  Of the long
 * options nothing is known but those that are looked for: that the argument of
 * another one looks like -r does not happen.
 *
 * If we are wrong the source is open for writing as it would be without -r, or
 * is served read-only; nothing is written to it that a client has not sent.
 */

#include <config.h>

#include <string.h>

#include "cleanup.h"
#include "readonly.h"

/* Options of one letter that have an argument. */
#define WITH_ARGUMENT "DegipPtuU"

/* What is said by letters in one word, without the "-". */
enum letters { NOTHING, READ_ONLY, NEXT_IS_ARGUMENT };

static enum letters
look_at_letters (const char *p)
{
  for (; *p; ++p) {
    if (*p == 'r')
      return READ_ONLY;
    if (strchr (WITH_ARGUMENT, *p))
      return p[1] ? NOTHING : NEXT_IS_ARGUMENT;
  }
  return NOTHING;
}

/* getopt takes what begins like one option only; --r may be --run. */
static bool
is_long (const char *word)
{
  const size_t n = strlen (word);

  return n >= strlen ("--re") && (strncmp ("--readonly", word, n) == 0 ||
                                  strncmp ("--read-only", word, n) == 0);
}

bool
readonly_asked (FILE *words)
{
  bool argument = true;         /* the program's name is no option, either */
  CLEANUP_FREE char *word = NULL;
  size_t size = 0;

  while (getdelim (&word, &size, '\0', words) > 0) {
    if (argument)
      argument = false;
    else if (strcmp (word, "--") == 0)
      return false;
    else if (strncmp (word, "--", 2) == 0) {
      if (is_long (word))
        return true;
    }
    else if (word[0] == '-')
      switch (look_at_letters (word + 1)) {
      case READ_ONLY: return true;
      case NEXT_IS_ARGUMENT: argument = true; break;
      case NOTHING: break;
      }
  }
  return false;
}

bool
readonly_is_server (void)
{
  FILE *f = fopen ("/proc/self/cmdline", "re");
  bool r;

  if (f == NULL)
    return false;
  r = readonly_asked (f);
  fclose (f);
  return r;
}
