#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Copying in the background under load ends with two identical disks.

. "${top_srcdir:-../..}/tests/lib/functions.sh"
. "$libdir/under-load.sh"

for source in memory file; do
  mirror_at_startup background $source
  mirror_under_load background $source
done
