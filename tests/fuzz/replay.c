/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs inputs of a fuzzer one by one, without libFuzzer:
 *
 *   replay-qmp FILE...
 *
 * An input that is not handled well aborts; its name is the last one printed.
 */

#include <config.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_INPUT (1 << 20)

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
run (const char *name)
{
  uint8_t *data = malloc (MAX_INPUT);
  FILE *f = fopen (name, "rb");
  size_t n;

  if (data == NULL || f == NULL) {
    perror (name);
    exit (1);
  }
  n = fread (data, 1, MAX_INPUT, f);
  fclose (f);
  printf ("%s: %zu bytes\n", name, n);
  fflush (stdout);
  LLVMFuzzerTestOneInput (data, n);
  free (data);
}

int
main (int argc, char *argv[])
{
  int i;

  if (argc < 2) {
    fprintf (stderr, "usage: %s FILE...\n", argv[0]);
    return 1;
  }
  for (i = 1; i < argc; i++)
    run (argv[i]);
  return 0;
}
