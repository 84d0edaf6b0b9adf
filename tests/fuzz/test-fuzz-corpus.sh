#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The inputs that the fuzzer starts from, and those that it has found, without
# a fuzzer.
shopt -s nullglob
inputs=("$top_srcdir"/tests/fuzz/corpus-qmp/*)
[ ${#inputs[@]} -ge 10 ] || { echo "inputs are missing"; exit 1; }
exec "$top_builddir/tests/fuzz/replay-qmp" "${inputs[@]}"
