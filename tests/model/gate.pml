/* SPDX-License-Identifier: BSD-3-Clause */
/* The two small races around sampling.  Sequentially consistent memory (C11 seq_cst).
 * -DGATE=0: a request samples the mode, then counts itself in.
 * -DGATE=1: it counts itself in under the mode it saw and looks again; if the mode changed, it counts out and repeats.
 * The switcher publishes the new mode and waits until the old mode's counter is 0 (job start I6, pivot hold, "no track in flight"). */
#ifndef GATE
#define GATE 1
#endif
byte mode, cnt[2], busy[2]; bool drained;
active [2] proctype req () {
  byte m; byte n = 0;
  do
  :: n < 2 -> n++;
#if GATE
again: m = mode; cnt[m]++;
     if :: mode != m -> cnt[m]--; goto again :: else fi;
#else
     m = mode; cnt[m]++;
#endif
     busy[m]++;                       /* the request acts on what it sampled */
     assert (!(m == 0 && drained));
     busy[m]--; cnt[m]--
  :: n >= 2 -> break
  od
}
active proctype switcher () { mode = 1; cnt[0] == 0; drained = true; assert (busy[0] == 0) }
