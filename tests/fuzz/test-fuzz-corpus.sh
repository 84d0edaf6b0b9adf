#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The inputs that the fuzzers start from, and those that they have found, without
# a fuzzer.
shopt -s nullglob
for name in qmp intent; do
  inputs=("$top_srcdir/tests/fuzz/corpus-$name"/*)
  [ ${#inputs[@]} -ge 10 ] || { echo "inputs are missing"; exit 1; }
  "$top_builddir/tests/fuzz/replay-$name" "${inputs[@]}" || exit 1
done
