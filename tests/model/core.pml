/* SPDX-License-Identifier: BSD-3-Clause */
/* Independent second model (Promela) of the core: one granule of one byte,
 * two writers, one copier, mode switches, target crash with volatile cache.
 * Written from the text, not from mc.c.   spin -DCLEAR_FIRST=0|1 -a core.pml */
#ifndef CLEAR_FIRST
#define CLEAR_FIRST 1
#endif
#ifndef SWITCHES
#define SWITCHES 2
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef NW
#define NW 1
#endif
byte S, T, Z;             /* source, target, target on stable media */
bool D, U;
bool tee, online = true, dead;
byte sess;                /* session number */
byte infl;                /* client requests and copies in flight */
byte tracks, claims;      /* reasons not to be synced */
byte head, tail;          /* FIFO range lock of the granule (ticket) */

#define SYNCED (tee && online && !D && tracks==0 && claims==0)

proctype writer (byte v) {
  byte n = 0, my, t, s; bool st, ok, cl;
  do
  :: n < NW ->
     n++;
     atomic { infl++; st = tee && online; s = sess; if :: !st -> tracks++ :: else fi }
     if
     :: !st ->
        S = v + n;
        atomic { D = true; }
        atomic { tracks--; infl--; }
     :: st ->
        atomic { my = tail; tail++; }
        head == my;                               /* granted */
#if CLEAR_FIRST
        atomic { if :: D -> D = false; claims++; cl = true :: else -> cl = false fi }
#endif
        ok = true; 
        if
        :: S = v + n; if :: atomic { online && sess == s && !dead -> T = v + n; U = true } :: atomic { !(online && sess == s && !dead) -> ok = false } fi
        :: if :: atomic { online && sess == s && !dead -> T = v + n; U = true } :: atomic { !(online && sess == s && !dead) -> ok = false } fi; S = v + n
        fi;
        if
        :: !ok -> D = true
        :: else ->
#if !CLEAR_FIRST
           D = false
#else
           skip
#endif
        fi;
#if CLEAR_FIRST
        atomic { if :: cl -> claims--; cl = false :: else fi }
#endif
        atomic { infl--; head++; }
     fi
  :: n >= NW -> break
  od
}
proctype copier () {
  byte my, b, s; bool ok;
end:
  do
  :: D && online ->
     atomic { my = tail; tail++; }
     head == my;
     if
     :: atomic { D -> claims++; infl++; D = false; s = sess };
        b = S;
        if
        :: atomic { online && sess == s && !dead -> T = b; U = true }
        :: atomic { !(online && sess == s && !dead) -> D = true }
        fi;
        atomic { claims--; infl--; head++; }
     :: atomic { !D -> head++; }
     fi
  od
}
proctype flusher () {    /* good flushes at any time: U snapshot at the start, leaves at the end */
end:
  do
  :: atomic { online && !dead && U -> U = false; Z = T }
  od
}
proctype env () {
  byte k = 0, l = 0;
  do
  :: k < SWITCHES -> k++; tee = !tee
  :: l < LOSSES ->
     l++;
     atomic { dead = true; if :: T = Z :: skip fi };
     atomic { if :: U -> D = true; U = false :: else fi; online = false; dead = false; };
     atomic { online = true; sess++; }
  :: k >= SWITCHES && l >= LOSSES -> break
  od
}
proctype mon () {
  /* one look at any instant: I1, I8 (truth), stable target */
  atomic {
    assert (S == T || D || infl > 0 || dead);
    assert (S == Z || D || infl > 0 || U || dead || !online);
    assert (!(SYNCED && infl == 0 && !dead) || S == T);
  }
}
init { atomic { tee = false; run writer (0); run writer (10); run copier (); run flusher (); run env (); run mon () } }
