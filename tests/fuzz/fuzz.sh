#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# fuzz.sh NAME SOURCE...: build the fuzzer NAME with clang and run it, for
# $FUZZ_SECONDS, from the committed corpus.
#
# What it finds to be new is kept in tests/fuzz/found-NAME/ of the build for
# the next time; an input that fails is left in tests/fuzz/ there, and is run
# again by giving it to tests/fuzz/fuzz-NAME.  $CPPFLAGS and $LIBS are those
# of the build, in its top directory.
set -e
name=$1
shift
: "${CLANG:=clang}" "${FUZZ_SECONDS:=60}"
command -v "$CLANG" >/dev/null ||
  { echo "make fuzz needs clang (Debian package: clang)"; exit 1; }
dir=$top_builddir/tests/fuzz

sources=()
for file in "$@"; do
  [[ $file != *.c ]] || sources+=("$top_srcdir/$file")
done
echo "Building fuzz-$name"
# shellcheck disable=SC2086
"$CLANG" -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined \
  -fno-sanitize-recover=undefined $CPPFLAGS "${sources[@]}" \
  -o "$dir/fuzz-$name" $LIBS -lpthread

cd "$dir"
mkdir -p "found-$name"
exec "./fuzz-$name" -max_total_time="$FUZZ_SECONDS" -timeout=60 \
  -dict="$top_srcdir/tests/fuzz/$name.dict" -print_final_stats=1 \
  "found-$name" "$top_srcdir/tests/fuzz/corpus-$name"
