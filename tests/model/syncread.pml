/* SPDX-License-Identifier: BSD-3-Clause */
/* How may "synced" be read?  One dirty granule, a copier whose copy may fail, a reader.
 * -DHOW=0: reads D, then the number of claims.  -DHOW=1: claims, then D.  -DHOW=2: one counter of reasons
 * (raised before, lowered after, so that it never dips).  Checked: a "yes" is true at some instant of the reading. */
#ifndef HOW
#define HOW 2
#endif
bool D = true, eq; byte claims, N = 1; bool reading, truth;
#define NOTE if :: reading && eq -> truth = true :: else fi
active proctype copier () {
  byte tries = 0;
  do
  :: D && tries < 2 -> tries++;
     atomic { claims++; N++ };
     D = false; N--;
     if
     :: atomic { eq = true; NOTE };            /* target written */
        atomic { claims--; N-- }; break
     :: N++; D = true;                         /* failed: set again, then let go */
        claims--; N--
     fi
  :: else -> break
  od
}
active proctype reader () {
  bool a, b;
  atomic { reading = true; truth = eq };
#if HOW == 0
  a = !D; b = (claims == 0);
#elif HOW == 1
  b = (claims == 0); a = !D;
#else
  a = (N == 0); b = true;
#endif
  atomic { assert (!(a && b) || truth) }
}
