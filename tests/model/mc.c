/* SPDX-License-Identifier: BSD-3-Clause */
/* Explicit-state model of the mirror protocol (docs/correctness.md).
 *
 * Breadth-first search, hash compaction (64 bit), shortest counterexamples.
 * 4 bytes of disk, granule = gs bytes (default 2), up to 2 clients and 2
 * copiers, FIFO byte-range locks, one target "session" with a volatile cache,
 * intent bitmap W (one region per 2 bytes), flush slot, pivot, faults.
 *
 * Every rule is a switch: 0 = a looser wording that was once thought to do,
 * 1 (or more) = the rule as it is now.  Mutants (m.*) are seeded bugs, to
 * show that the checker can see.
 *
 *   cc -O2 -o mc mc.c && ./mc fixed=1 key=value ...      (see README.md)
 *
 * Exit status: 0 every state seen and good; 1 a rule broken (or liveness);
 * 2 usage; 3 cut off at max= states.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <stdarg.h>
#include <time.h>

typedef uint8_t u8; typedef uint64_t u64; typedef uint32_t u32;
#define NB 4
#define MC 2
#define MK 2
#define QMAX (MC+MK)

/* ---- configuration ---- */
static struct {
  int nc, nk, gs, left, mode0, tsw, tf, sf, ls, pl, ff, cr, w, pv, cu, ghost, tb,
    job, jmode, live, cc, torn, sess0, dirty0, ysync, lateack;
  /* rules: 0 = the looser wording */
  int clear, ugen, onesess, sync, retire, race, q, jobw, commit, lockround,
    markround, readyrule, restartq, fence, waitcnt, everything, endrec, tidyscan,
    leave;
  /* mutants */
  int nolock, nofifo, clearlate, copynoset, nosfailmark, notfailmark, scanfirst,
    clearouter, nodrain, nodraincopy, noU, nobroken, leaveany, leaveearly;
  long max; int quiet, seed, reach;
} cfg = { .nc=2,.nk=1,.gs=2,.left=1,.mode0=2,.tb=1,.sess0=1,.max=40000000 };

enum { NONE, TR, TEE, TRIM, OLD };          /* what a request sampled */
enum { IDLE, INTENT, LOCK, LEGS, FL };      /* client pc */
enum { KIDLE, KLOCK, KREAD, KWRITE };       /* copier pc */
enum { OFF, ON, DEAD };                     /* session */
enum { WHO_NONE, WHO_Y=100, WHO_P, WHO_R };

typedef struct { u8 kind, mask; } Op;
static Op ops[MC][8]; static int nops[MC]; static int isseq[MC];

typedef struct {
  u8 pc, kind, mask, smode, gen, sp, tp, sfail, tres, cl, left, done, lv;    /* lv: was all dirty when it queued? */
  u8 rbm, rb[NB];
} Cl;
typedef struct { u8 pc, lm, cm, rd, tp, gen, ver, buf[NB]; } Ko;   /* ver: compares a suspect granule */
typedef struct {
  u8 S[NB], T[NB], Z[NB];     /* source, target as read back, target on stable media */
  u8 sv, sfl, ta;             /* S bytes volatile; S flush snapshot; T bytes acked, not stable (truth) */
  u8 D, U, UF, Q;             /* dirty granules; U (bytes), U being flushed; suspect granules */
  u8 fpc, fok, fgen, fwho;
  u8 W[2], wrun, rpc, rq;     /* wrun: the file says that a mirror runs; else W is everything */
  u8 mode, scan, sess, gen, hold, ppc, rec;
  u8 synced, ready, ypc, ybroken;
  u8 q[QMAX], qn, cb;          /* cb: second connection of the lost session not yet noticed */
  u8 gm, gleg, gv[NB];
  u8 tsw, tf, sf, ls, ff, cr, pv;
  Cl c[MC]; Ko k[MK];
} St;

/* ---- geometry ---- */
static int ng;
static u8 gbytes (u8 gm) { u8 m=0; for (int b=0;b<NB;b++) if (gm>>(b/cfg.gs)&1) m|=1<<b; return m; }
static u8 outer (u8 m) { u8 g=0; for (int b=0;b<NB;b++) if (m>>b&1) g|=1<<(b/cfg.gs); return g; }
static u8 inner (u8 m) { u8 g=0; for (int i=0;i<ng;i++) if ((gbytes(1<<i)&~m)==0) g|=1<<i; return g; }
static u8 blk (u8 m) { u8 r=0; for (int b=0;b<NB;b++) if (m>>b&1) for (int d=0;d<cfg.tb;d++) r|=1<<(b/cfg.tb*cfg.tb+d); return r; }
static u8 regs (u8 m) { u8 r=0; if (m&3) r|=1; if (m&12) r|=2; return r; }   /* regions of bytes */
static u8 rbytes (u8 r) { return ((r&1)?3:0)|((r&2)?12:0); }

/* ---- successor emission ---- */
#define PROC_ENV 30
static void (*sink)(St*, int proc);
static int labels; static char lab[256];
static void L (const char *f, ...) { if (!labels) return; va_list a; va_start(a,f); vsnprintf(lab,sizeof lab,f,a); va_end(a); }
static const char *mb (u8 m) { static char b[8][8]; static int n; char *p=b[n++&7]; int j=0; for (int i=0;i<NB;i++) if (m>>i&1) p[j++]='0'+i; if(!j) p[j++]='-'; p[j]=0; return p; }

static u8 lockrange (const St *s, int id) {
  if (id<MC) return cfg.lockround||cfg.tb==1 ? blk(s->c[id].mask) : s->c[id].mask;
  return gbytes(s->k[id-MC].lm);
}
static int holds (const St *s, int id) { return id<MC ? s->c[id].pc==LEGS : s->k[id-MC].pc>KLOCK; }
static int grantable (const St *s, int id) {
  u8 m=lockrange(s,id);
  for (int i=0;i<s->qn;i++) {
    int o=s->q[i];
    if (cfg.nofifo) { if (o!=id && holds(s,o) && (lockrange(s,o)&m)) return 0; }
    else { if (o==id) return 1; if (lockrange(s,o)&m) return 0; }
  }
  return 1;
}
static void enq (St *s, int id) { if (s->qn>=QMAX) abort(); s->q[s->qn++]=id; }
static void deq (St *s, int id) { int j=0; for (int i=0;i<s->qn;i++) if (s->q[i]!=id) s->q[j++]=s->q[i]; s->qn=j; for(;j<QMAX;j++) s->q[j]=0; }

/* reasons not to be synced, the proposed counter */
static int reasons (const St *s) {
  if (s->D || s->mode!=2 || s->sess==OFF || s->scan!=9 || (s->Q && cfg.q==1)) return 1;
  for (int i=0;i<cfg.nc;i++) { const Cl *c=&s->c[i];
    if (c->pc==IDLE || c->pc==FL) continue;
    if (c->smode!=TEE) return 1;
    if (c->cl) return 1; }
  for (int j=0;j<cfg.nk;j++) if (s->k[j].pc>=KREAD) return 1;
  return 0;
}
static int synced (const St *s) {
  if (cfg.sync==2) return s->synced;
  if (cfg.sync==1) return !reasons(s);
  /* the looser wording: write-blocking, D empty, no track request in flight, target online */
  if (s->mode!=2 || s->D || s->sess==OFF) return 0;
  for (int i=0;i<cfg.nc;i++) if (s->c[i].pc!=IDLE && s->c[i].pc!=FL && s->c[i].smode==TR) return 0;
  return 1;
}
static void emit (St *n, int proc) {
  if (reasons(n)) { n->synced=0; if (n->fpc) n->ybroken=1; }   /* a flush counts for synced only if there was no reason against it all the while */
  if (!n->fpc) n->ybroken=0;
  sink(n,proc);
}
#define NEW St n=*s

static int val (const Cl *c, int i) { return 1+i*4+(cfg.live ? (c->done&1) : c->done); }
static u8 trange (const Cl *c) { return blk(c->mask); }

static void endclient (St *n, int i) {
  Cl *c=&n->c[i]; u8 l=c->left, d=c->done;
  memset(c,0,sizeof *c);
  c->left=cfg.live?1:l-1; c->done=cfg.live?!d:d+1;
}
static int leaves (const St *s, u8 mask) { u8 g=outer(mask); return cfg.leaveany ? (s->D&g)!=0 : (s->D&g)==g; }
static void after_intent (St *n, int i) {
  Cl *c=&n->c[i];
  if (cfg.leaveearly) c->lv=leaves(n,c->mask);
  if (c->smode==TEE && !cfg.nolock) { c->pc=LOCK; enq(n,i); }
  else if (c->smode==TEE) { c->pc=LEGS; c->sp=c->mask; c->tp=c->mask; c->gen=n->gen; }
  else { c->pc=LEGS; c->sp=c->mask; }
}
static void toghost (St *n, u8 m, const u8 *v, int leg) {
  if (!cfg.ghost || !m || n->gm) return;
  n->gm=m; n->gleg=leg; for (int b=0;b<NB;b++) n->gv[b]=(m>>b&1)?v[b]:0;
}
static u8 tval (const Cl *c, int i, int b) { return (c->mask>>b&1) ? val(c,i) : c->rb[b]; }

static void client (const St *s, int i) {
  const Cl *c=&s->c[i];
  switch (c->pc) {
  case IDLE:
    if (!c->left || s->hold || (s->ppc>=4 && s->ppc!=6)) return;
    for (int o=0;o<nops[i];o++) {
      if (isseq[i] && o!=c->done) continue;
      NEW; Cl *d=&n.c[i];
      d->kind=ops[i][o].kind; d->mask=ops[i][o].mask;
      d->smode = s->mode==0?NONE : s->mode==3?OLD : (s->mode==2 && s->sess!=OFF)?TEE : TR;
      d->gen=s->gen;
      if (d->kind=='f') {
        if (d->smode!=TEE) { L("c%d flush (source only)",i); endclient(&n,i); emit(&n,i); continue; }
        d->pc=FL; L("c%d flush arrives, mode tee",i); emit(&n,i); continue;
      }
      if (d->kind=='t' && d->smode==TEE) d->smode=TRIM;
      if (d->smode==NONE||(d->smode==OLD && !cfg.w)) { d->pc=LEGS; d->sp=d->mask; }
      else if (cfg.w) d->pc=INTENT;
      else after_intent(&n,i);
      L("c%d %s [%s] arrives, samples %s%s",i,d->kind=='t'?"trim":"write",mb(d->mask),
        d->smode==NONE?"no job":d->smode==OLD?"old job":d->smode==TR?"track":d->smode==TRIM?"tee (trim: source only + mark)":"tee",
        d->pc==LOCK?", queues for its range lock":"");
      emit(&n,i);
    }
    return;
  case INTENT: {
    u8 r=regs(c->mask), bad=0, ret=0;
    for (int g=0;g<2;g++) if (r>>g&1) { if (s->W[g]==0) bad|=1<<g; if (s->W[g]==2) ret|=1<<g; }
    if (ret && cfg.race) return;                  /* wait for the retirement to finish */
    NEW; for (int g=0;g<2;g++) if (bad>>g&1) n.W[g]=1;
    n.rq&=~r; after_intent(&n,i); L("c%d intent_begin [%s]: %s",i,mb(c->mask),bad?"recorded durably (record_locked)":"recorded already"); emit(&n,i); return; }
  case LOCK: {
    if (!grantable(s,i)) return;
    NEW; Cl *d=&n.c[i]; d->pc=LEGS;
    if (cfg.clear==1) { u8 g=inner(c->mask)&~(cfg.q==2?n.Q:0); d->cl=n.D&g; n.D&=~g; }
    d->sp=c->mask;
    if (cfg.leave && !d->cl && (cfg.leaveearly?c->lv:leaves(s,c->mask))) {
      d->tres=3; L("c%d gets lock [%s], all is dirty: submits S only",i,mb(lockrange(s,i))); emit(&n,i); return; }
    int gone = s->sess==OFF || (cfg.onesess && s->gen!=c->gen);
    if (gone) d->tres=2;
    else { d->gen=s->gen; if (trange(c)!=c->mask) d->rbm=trange(c)&~c->mask; else d->tp=c->mask; }
    L("c%d gets lock [%s]%s, submits S%s",i,mb(lockrange(s,i)),d->cl?", clears covered bits":"",gone?" (target gone)":" and T");
    emit(&n,i); return; }
  case LEGS:
    for (int b=0;b<NB;b++) if (c->sp>>b&1) {
      NEW; n.c[i].sp&=~(1<<b); n.sv|=1<<b; n.sfl&=~(1<<b);
      n.S[b]=c->kind=='t'?13:val(c,i); L("S[%d]:=%d (c%d)",b,n.S[b],i); emit(&n,i);
      if (c->kind=='t') { n=*s; n.c[i].sp&=~(1<<b); L("trim leaves S[%d] (c%d)",b,i); emit(&n,i); }
    }
    if (!c->sfail && s->sf) { NEW; n.sf--; n.c[i].sfail=1; n.c[i].sp=0; L("c%d source leg fails",i); emit(&n,i); }
    if (c->smode!=TEE) {
      if (c->sp) return;
      NEW; if ((c->smode==TR||c->smode==TRIM) && !(c->sfail && cfg.nosfailmark)) n.D|=outer(c->mask);
      L("c%d done%s, replies",i,c->smode==TR||c->smode==TRIM?", marks D":""); endclient(&n,i); emit(&n,i); return;
    }
    /* target leg */
    if (!c->tres) {
      int alive = s->sess==ON && s->gen==c->gen;
      if (c->rbm) {
        if (alive) { int b=__builtin_ctz(c->rbm); NEW; n.c[i].rbm&=~(1<<b); n.c[i].rb[b]=s->T[b];
          if (!n.c[i].rbm) n.c[i].tp=trange(c);
          L("c%d RMW reads T[%d]=%d",i,b,s->T[b]); emit(&n,i); }
      } else {
        if (alive) for (int b=0;b<NB;b++) if (c->tp>>b&1) { NEW; n.c[i].tp&=~(1<<b); n.T[b]=tval(c,i,b);
            L("T[%d]:=%d (c%d)",b,n.T[b],i); emit(&n,i); }
        int mayack = !c->tp && (alive || (s->gen==c->gen && s->sess==DEAD) || (!cfg.onesess && cfg.lateack && s->cb));
        if (mayack) { NEW; n.c[i].tres=1; int there=1; for (int b=0;b<NB;b++) if ((trange(c)>>b&1) && s->T[b]!=tval(c,i,b)) there=0;
          if (alive || (s->cb && there)) n.ta|=trange(c);
          if (!cfg.noU) n.U|=trange(c);
          L("c%d T acknowledges [%s]%s",i,mb(trange(c)),alive?"":" (late, from the lost session)"); emit(&n,i); }
        if (s->tf && alive) { NEW; n.tf--; n.c[i].tres=2; n.c[i].tp=0; L("c%d T replies EIO (outcome unknown)",i); emit(&n,i);
          if (cfg.torn && c->tp) { for (int b=0;b<NB;b++) if (c->tp>>b&1) n.T[b]=12; L("c%d T replies EIO, leaves garbage in [%s]",i,mb(c->tp)); emit(&n,i); } }
      }
      if (!alive) { NEW; n.c[i].tres=2; u8 v[NB]; for (int b=0;b<NB;b++) v[b]=tval(c,i,b);
        toghost(&n,c->tp,v,1); n.c[i].tp=0; n.c[i].rbm=0; if (cfg.q) n.Q|=outer(lockrange(s,i)); L("c%d T callback: connection lost%s",i,n.gm&&!s->gm?" (bytes may still land: ghost)":""); emit(&n,i); }
      return;
    }
    if (c->sp) return;
    { NEW; int ok=!c->sfail && c->tres==1;
      if (c->tres==3 && !c->sfail) { L("c%d unlocks, replies; it is left to the copier",i); deq(&n,i); endclient(&n,i); emit(&n,i); return; }
      if (ok) { if (!cfg.clear) n.D&=~(cfg.clearouter?outer(c->mask):inner(c->mask)); }
      else if (!(c->sfail && cfg.nosfailmark && c->tres==1) && !(cfg.notfailmark && !c->sfail))
        n.D|=outer(cfg.markround?lockrange(s,i):c->mask);
      L("c%d %s, unlocks, replies",i,ok?(cfg.clear?"both good":"both good, clears covered bits"):"a leg failed, marks D");
      deq(&n,i); endclient(&n,i); emit(&n,i); }
    return;
  case FL: return;   /* handled by the flush slot */
  }
}

static void copier (const St *s, int j) {
  const Ko *k=&s->k[j]; int id=MC+j, pr=8+j;
  switch (k->pc) {
  case KIDLE:
    if (cfg.q==1 && s->Q && !s->gm && s->sess!=OFF && (s->mode==1||s->mode==2) && s->ppc<4)
      for (int g=0;g<ng;g++) if (s->Q>>g&1) { NEW; n.k[j].pc=KLOCK; n.k[j].lm=1<<g; n.k[j].ver=1; enq(&n,id); L("k%d queues to compare suspect granule %d",j,g); emit(&n,pr); }
    if (!s->D || s->sess==OFF || (s->mode!=1&&s->mode!=2) || (s->ppc>=4&&s->ppc!=6)) return;
    for (u8 m=1;m<(1<<ng);m++) {
      if ((m&s->D)!=m || (cfg.q==2 && (m&s->Q))) continue;
      int lo=__builtin_ctz(m), w=__builtin_popcount(m); if (m!=(((1<<w)-1)<<lo)) continue; if (w>2) continue;
      NEW; n.k[j].pc=KLOCK; n.k[j].lm=m; enq(&n,id); L("k%d queues for granules [%s]",j,mb(m)); emit(&n,pr); }
    return;
  case KLOCK: {
    if (!cfg.nolock && !grantable(s,id)) return;
    if (k->ver) { NEW; u8 m=gbytes(k->lm); int df=0; for (int b=0;b<NB;b++) if ((m>>b&1) && s->S[b]!=s->T[b]) df=1;
      if (!s->gm && s->sess==ON && (k->lm&s->Q)) { n.Q&=~k->lm; if (df) n.D|=k->lm; }
      memset(&n.k[j],0,sizeof(Ko)); deq(&n,id); L("k%d compares suspect granules [%s]: %s",j,mb(k->lm),df?"differ, marked":"equal"); emit(&n,pr); return; }
    NEW; Ko *d=&n.k[j]; d->cm=k->lm&s->D&~(cfg.q==2?s->Q:0);
    if (!d->cm) { memset(d,0,sizeof *d); deq(&n,id); L("k%d finds bits already clean, unlocks",j); emit(&n,pr); return; }
    if (!cfg.clearlate) n.D&=~d->cm;
    d->pc=KREAD; d->rd=gbytes(d->cm); L("k%d gets lock, clears bits [%s]",j,mb(d->cm)); emit(&n,pr); return; }
  case KREAD: {
    if (!k->rd) {
      NEW; Ko *d=&n.k[j]; if (cfg.clearlate) n.D&=~d->cm;
      if (s->sess==OFF) { if (!cfg.copynoset) n.D|=k->cm; memset(d,0,sizeof *d); deq(&n,id); L("k%d target gone, sets bits again",j); emit(&n,pr); return; }
      if (cfg.w && cfg.retire<2) for (int g=0;g<2;g++) if (regs(gbytes(k->cm))>>g&1) n.W[g]=1;
      d->pc=KWRITE; d->tp=gbytes(k->cm); d->gen=s->gen; L("k%d submits T write",j); emit(&n,pr); return; }
    int b=__builtin_ctz(k->rd); NEW; n.k[j].rd&=~(1<<b); n.k[j].buf[b]=s->S[b]; L("k%d reads S[%d]=%d",j,b,s->S[b]); emit(&n,pr);
    if (s->sf) { n=*s; n.sf--; n.D|=k->cm; memset(&n.k[j],0,sizeof(Ko)); deq(&n,id); L("k%d source read error, sets bits again",j); emit(&n,pr); }
    return; }
  case KWRITE: {
    int alive=s->sess==ON && s->gen==k->gen;
    if (alive) for (int b=0;b<NB;b++) if (k->tp>>b&1) { NEW; n.k[j].tp&=~(1<<b); n.T[b]=k->buf[b]; L("T[%d]:=%d (k%d)",b,k->buf[b],j); emit(&n,pr); }
    if (!k->tp && (alive || (s->gen==k->gen&&s->sess==DEAD) || (!cfg.onesess && cfg.lateack && s->cb))) {
      NEW; if (alive) n.ta|=gbytes(k->cm); if (!cfg.noU) n.U|=gbytes(k->cm);
      memset(&n.k[j],0,sizeof(Ko)); deq(&n,id); L("k%d T acknowledges [%s]%s, unlocks",j,mb(gbytes(k->cm)),alive?"":" (late)"); emit(&n,pr); }
    if (!alive || s->tf) {
      NEW; if (alive) n.tf--; else { toghost(&n,k->tp,k->buf,1); if (cfg.q) n.Q|=k->cm; }
      if (!cfg.copynoset) n.D|=k->cm;
      memset(&n.k[j],0,sizeof(Ko)); deq(&n,id); L("k%d T write fails (%s), sets bits again%s",j,alive?"EIO":"connection lost",n.gm&&!s->gm?" (ghost)":""); emit(&n,pr); }
    return; }
  }
}

/* the target flush slot (one flush in flight) */
static int quiet (const St *s, int r) {
  u8 m=rbytes(1<<r);
  for (int i=0;i<cfg.nc;i++) { const Cl *c=&s->c[i]; if (!(c->mask&m)) continue;
    if (c->pc==LEGS) return 0;
    if (cfg.retire>1 && c->pc==LOCK) return 0; }
  for (int j=0;j<cfg.nk;j++) { const Ko *k=&s->k[j]; u8 km=gbytes(k->cm);
    if (k->pc==KWRITE && (km&m)) return 0;
    if (cfg.retire>1 && k->pc==KREAD && (km&m)) return 0; }
  if (cfg.retire && (gbytes(s->D)&m)) return 0;
  if (cfg.q==1 && cfg.retire && (gbytes(s->Q)&m)) return 0;
  return 1;
}
static void fstart (St *n, int who) { n->fpc=1; n->fwho=who; n->fgen=n->gen; if (cfg.ugen) { n->UF=n->U; n->U=0; } }
static void tryflush (const St *s, St base, int who, int pr, const char *w) {
  if (s->sess==ON) { St n=base; fstart(&n,who); n.fok=1;
    for (int b=0;b<NB;b++) if (n.ta>>b&1) n.Z[b]=n.T[b];
    n.ta=0;
    L("%s: T flush begins",w); emit(&n,pr); }
  if (s->sess==DEAD || (s->sess==ON && s->ff)) { St n=base; fstart(&n,who); n.fok=0; if (s->sess==ON) n.ff--;
    L("%s: T flush begins (will fail)",w); emit(&n,pr); }
}
static void notify (St *n, int who, int ok) {
  if (ok && cfg.sync==2 && (!n->ybroken || (cfg.nobroken && !reasons(n)))) n->synced=n->ready=1;
  if (who<MC) { endclient(n,who); return; }
  if (who==WHO_Y) { if (ok && cfg.sync<2) n->ready=1; n->ypc=0; }
  if (who==WHO_P) n->ppc = ok?3:(n->hold=0,6);
  if (who==WHO_R) { if (ok) { n->sv&=~n->sfl; n->rpc=2; } else { n->rpc=0; n->rq=0; } n->sfl=0; }
}
static void flusher (const St *s) {
  if (s->fpc==1 && s->sess!=OFF && s->fgen==s->gen) {
    NEW; int who=s->fwho; n.fpc=0; n.fwho=0; n.fgen=0; n.fok=0;
    if (s->fok) { if (cfg.ugen) n.UF=0; else n.U=0; }
    else { n.D|=outer(n.U|n.UF); n.U=n.UF=0; }
    notify(&n,who,s->fok); L("T flush %s",s->fok?"good":"fails, U goes to D"); emit(&n,12);
  }
  if (s->fpc) return;
  for (int i=0;i<cfg.nc;i++) if (s->c[i].pc==FL) {
    char w[16]; sprintf(w,"c%d",i);
    if (s->sess==OFF) { NEW; endclient(&n,i); L("c%d flush: target gone, S only",i); emit(&n,i); }
    else tryflush(s,*s,i,i,w); }
}
static int mayready (const St *s) {   /* the looser wording: D empty, nothing in flight that may dirty */
  if (cfg.readyrule) return !reasons(s);
  if (s->D || s->sess==OFF) return 0;
  for (int i=0;i<cfg.nc;i++) if (s->c[i].pc!=IDLE && s->c[i].pc!=FL) return 0;
  for (int j=0;j<cfg.nk;j++) if (s->k[j].pc>=KREAD) return 0;
  return 1;
}
static void ysync (const St *s) {
  if (!cfg.ysync || s->ypc || s->fpc) return;
  if (cfg.sync==2 ? (!reasons(s) && !s->synced) : (!s->ready && mayready(s))) { St b=*s; b.ypc=1; tryflush(s,b,WHO_Y,13,"sync"); }
}
static void retirer (const St *s) {
  if (!cfg.w) return;
  if (s->mode==3 || (cfg.tidyscan && s->scan!=9)) return;
  if (s->rpc==0 && !s->fpc && s->sess!=OFF) {
    u8 m=0; for (int r=0;r<2;r++) if (s->W[r]==1 && quiet(s,r)) m|=1<<r;
    if (m) { St b=*s; b.rpc=1; b.rq=m; u8 busy=0; for (int i=0;i<cfg.nc;i++) if (s->c[i].pc==LEGS) busy|=s->c[i].mask;
      b.sfl=s->sv&~busy; tryflush(s,b,WHO_R,14,"job_tidy: intent_idle, flush_legs: source and"); } }
  if (s->rpc==2) { NEW; int any=0; for (int r=0;r<2;r++) if (s->rq>>r&1) { if (quiet(s,r)) { n.W[r]=2; any=1; } }
    n.rq=0; n.rpc=any?3:0; L("intent_retire: pick_idle, writes the pages without the regions"); emit(&n,14); }
  if (s->rpc==3) { NEW; for (int r=0;r<2;r++) if (n.W[r]==2) n.W[r]=0; n.rpc=0; L("intent_retire: that is durable"); emit(&n,14); }
}
static void pivot (const St *s) {
  int idle=1;
  if (s->ppc==0 && s->pv) { NEW; n.pv--; n.hold=1; n.ppc=1; L("switch_try: all_halt, gate_hold"); emit(&n,PROC_ENV); }
  for (int i=0;i<cfg.nc;i++) if (s->c[i].pc!=IDLE) idle=0;
  if (cfg.nodrain) idle=1;
  if (!cfg.nodraincopy) for (int j=0;j<cfg.nk;j++) if (s->k[j].pc>=KREAD) idle=0;
  if (s->ppc==1 && idle && !s->D && !s->fpc && s->sess!=OFF && s->scan==9 && !(cfg.q==1 && s->Q)) {
    St b=*s; b.ppc=2; tryflush(s,b,WHO_P,15,"pivot"); }
  if (s->ppc==3) {
    NEW; n.rec=1; n.ppc=4; L("intent_commit: the record is durable"); emit(&n,15);
    if (cfg.cu) { /* the write of the record reports an error, but is durable */
      n=*s; n.rec=1; if (!cfg.commit) { n.ppc=6; n.hold=0; } else n.ppc=7;
      L("intent_commit: write_head fails, but the record is in the file%s",cfg.commit?": resolve_commit, stay held":"; continue on S"); emit(&n,15);
      n=*s; if (!cfg.commit) { n.ppc=6; n.hold=0; } else n.ppc=7;
      L("intent_commit: write_head fails, the record is not in the file"); emit(&n,15); } }
  if (s->ppc==7) { NEW; n.rec=1; n.ppc=4; L("resolve_commit: write_head, the record is durable"); emit(&n,15);
    n=*s; n.rec=0; n.ppc=6; n.hold=0; L("resolve_commit: intent_lose, the header as before is durable: release, continue on S"); emit(&n,15); }
  if (s->ppc==4) { NEW; n.ppc=5; L("give_target: the regime names T"); emit(&n,15); }
}
static void job (const St *s) {
  if (!cfg.job) return;
  if (s->mode==3 && cfg.w && cfg.endrec && s->wrun) {
    NEW; n.wrun=0; L("job_record_end: intent_finish, W is everything"); emit(&n,16); }
  else if (s->mode==3) { NEW; n.mode=0; L("job_abort: job_unpublish, no job"); emit(&n,16); }
  if (s->mode==0 && cfg.w && !s->wrun) {
    NEW; n.wrun=1; if (cfg.everything) n.W[0]=n.W[1]=1; L("record_start: intent_start%s",cfg.everything?", W is everything":""); emit(&n,16); }
  else if (s->mode==0) { NEW; n.mode=cfg.jmode; n.scan=cfg.scanfirst?2:1; L("job_new, install: tracking is published"); emit(&n,16); }
  if (s->scan==1) {
    for (int i=0;i<cfg.nc;i++) { if (s->c[i].pc==IDLE) continue;
      if (s->c[i].smode==NONE) return;
      if (cfg.jobw && s->c[i].smode==OLD) return; }
    NEW; n.scan=2; L("job start: waited, begins scan"); emit(&n,16); }
  if (s->scan>=2 && s->scan<9) {
    NEW; int g=s->scan-2; u8 m=gbytes(1<<g); int data=0; for (int b=0;b<NB;b++) if ((m>>b&1)&&s->S[b]) data=1;
    if (data) n.D|=1<<g;
    n.scan = g+1<ng ? s->scan+1 : 9; L("scan: granule %d is %s",g,data?"data, marked":"a hole"); emit(&n,16); }
}
static void env (const St *s) {
  if (s->tsw && (s->mode==1||s->mode==2) && s->ppc<4) { NEW; n.tsw--; n.mode=3-s->mode; L("mode switch to %s",n.mode==2?"tee":"track"); emit(&n,PROC_ENV); }
  if (s->ls && s->sess==ON) {
    NEW; n.ls--; n.sess=DEAD; L("T connection dies"); emit(&n,PROC_ENV);
    if (cfg.pl) { n=*s; n.ls--; n.sess=DEAD; memcpy(n.T,n.Z,NB); n.ta=0; L("T loses power: its volatile cache is gone"); emit(&n,PROC_ENV); } }
  if (s->cr && cfg.w && s->wrun && s->mode!=3 && s->scan==9) {
    for (int v=0;v<2;v++) {
      NEW; n.cr--; u8 d=0;
      for (int i=0;i<cfg.nc;i++) { Cl *c=&n.c[i]; if (c->pc==LEGS) { u8 vv[NB]; for (int b=0;b<NB;b++) vv[b]=tval(c,i,b);
            if (c->tp) toghost(&n,c->tp,vv,1); }
        if (c->pc!=IDLE) endclient(&n,i); }
      for (int j=0;j<cfg.nk;j++) { if (n.k[j].pc==KWRITE) toghost(&n,n.k[j].tp,n.k[j].buf,1); memset(&n.k[j],0,sizeof(Ko)); }
      int has2=0; for (int r=0;r<2;r++) { if (n.W[r]==2) { has2=1; n.W[r]=v; } if (n.W[r]) d|=outer(rbytes(1<<r)); }
      if (v && !has2) break;
      n.D=d; n.U=n.UF=0; n.qn=0; memset(n.q,0,sizeof n.q); n.fpc=n.fok=n.fgen=n.fwho=0; n.rpc=n.rq=n.sfl=0;
      n.hold=0; n.ppc = n.rec ? 5 : 0; n.synced=n.ready=n.ypc=0; n.sess=OFF; n.scan=9;
      n.Q = cfg.restartq ? d : 0;
      L("killed; intent_new, job_new: D := W = [%s]%s; intent_resume",mb(d),cfg.restartq?", suspect (take_unclean)":""); emit(&n,PROC_ENV); } }
  if (s->sess==DEAD) {
    NEW; u8 f=0;
    for (int i=0;i<cfg.nc;i++) { const Cl *c=&s->c[i]; if (c->pc==LEGS && c->smode==TEE && !c->tres && c->gen==s->gen && !(i==1 && cfg.lateack && !cfg.onesess)) f|=outer(lockrange(s,i)); }
    for (int j=0;j<cfg.nk;j++) { const Ko *k=&s->k[j]; if (k->pc==KWRITE && k->gen==s->gen) f|=k->cm; }
    n.D|=outer(s->U|s->UF)|f; n.U=n.UF=0; n.sess=OFF;
    if (cfg.lateack && !cfg.onesess) n.cb=1;   /* the other connection of the old session still looks alive */
    if (cfg.q) n.Q|=f;
    if (s->fpc) { int who=s->fwho; n.fpc=n.fwho=n.fgen=n.fok=0; notify(&n,who,0); }
    L("loss handled: U and in-flight ranges go to D"); emit(&n,17); }
  if (s->cb) { NEW; n.cb=0; n.D|=outer(s->U); n.U=0; L("second connection's loss handled: U goes to D"); emit(&n,17); }
  if (cfg.q==2 && s->Q && !s->gm) { NEW; n.Q=0; L("T_ghost has passed: suspect granules may be copied"); emit(&n,20); }
  if (s->sess==OFF && s->ppc<4) {
    int ok=1;
    if (cfg.onesess) {
      for (int i=0;i<cfg.nc;i++) { const Cl *c=&s->c[i]; if (c->pc==LEGS && c->smode==TEE && !c->tres) ok=0; }
      for (int j=0;j<cfg.nk;j++) if (s->k[j].pc==KWRITE) ok=0;
    }
    if (cfg.fence && s->gm) ok=0;             /* EOF of the old connection awaited */
    if (ok) { NEW; n.sess=ON; n.gen=(s->gen+1)&3; L("reconnected: new session"); emit(&n,18); } }
  if (s->gm && (s->gleg==0 || s->sess!=DEAD)) {
    for (int b=0;b<NB;b++) if (s->gm>>b&1) { NEW; n.gm&=~(1<<b); n.gv[b]=0; n.T[b]=s->gv[b]; if(!n.gm) n.gleg=0; L("ghost lands: T[%d]:=%d",b,s->gv[b]); emit(&n,19); }
    { NEW; n.gm=0; n.gleg=0; memset(n.gv,0,NB); L("ghost dropped by the server"); emit(&n,19); } }
}
static void succ (const St *s) {
  for (int i=0;i<cfg.nc;i++) client(s,i);
  for (int j=0;j<cfg.nk;j++) copier(s,j);
  flusher(s); ysync(s); retirer(s); pivot(s); job(s); env(s);
}

/* ---- properties ---- */
static u8 inflight (const St *s) {
  u8 f=0;
  for (int i=0;i<cfg.nc;i++) if (s->c[i].pc==LEGS) f|=lockrange(s,i)|s->c[i].mask|trange(&s->c[i]);
  for (int j=0;j<cfg.nk;j++) if (s->k[j].pc>=KREAD) f|=gbytes(s->k[j].cm);
  return f;
}
static const char *check (const St *s) {
  /* reach=n: not a property, shows that a situation occurs in the model at all (so that the others are not empty) */
  static const char *R="reached";
  if (cfg.reach==1 && synced(s) && s->T[2]==3 && s->Z[0]==1) return R;
  if (cfg.reach==2 && s->ppc==5 && s->S[0]) return R;
  if (cfg.reach==3 && s->W[0]==0 && s->S[0] && s->Z[0]==s->S[0]) return R;
  if (cfg.reach==4 && s->cr==0 && synced(s) && s->T[0]) return R;
  if (cfg.reach==5 && s->ls==0 && s->Q && s->T[0]==1 && s->S[0]==2 && !s->gm) return R;
  if (cfg.reach==6 && s->ls==0 && synced(s) && s->S[0]) return R;
  if (cfg.reach==7 && s->scan==9 && cfg.job && synced(s) && s->T[0]) return R;
  if (cfg.reach==8 && s->qn>=3) return R;
  if (cfg.reach==9 && s->rec && s->ppc==0) return R;
  if (cfg.reach==10 && s->c[0].tres==3 && s->qn>=3) return R;
  u8 f=inflight(s), d=gbytes(s->D), qq=cfg.q==1?gbytes(s->Q):0;
  int job=s->mode==1||s->mode==2;
  if (job && s->scan==9 && s->ppc<4) {
    for (int b=0;b<NB;b++) { u8 m=1<<b;
      if (s->S[b]!=s->T[b] && !((d|f|qq)&m) && !((s->sess==DEAD||s->cb) && ((s->U|s->UF)&m))) return "I1: S!=T outside D and in flight";
      if (cfg.pl && s->sess!=OFF && s->S[b]!=s->Z[b] && !((d|f|qq|s->U|s->UF)&m)) return "I1s: stable T differs outside D, in flight and U"; }
    if (synced(s) && s->sess==ON) {
      u8 cf=0; for (int i=0;i<cfg.nc;i++) if (s->c[i].pc==LEGS) cf|=s->c[i].mask|trange(&s->c[i]);
      for (int b=0;b<NB;b++) if (s->S[b]!=s->T[b] && !(cf>>b&1)) return "I8: synced, but S!=T (no client request there)"; }
  }
  if (job && s->scan!=9 && synced(s)) for (int b=0;b<NB;b++) if (s->S[b]!=s->T[b]) { int any=0; for (int i=0;i<cfg.nc;i++) if (s->c[i].pc!=IDLE) any=1; if (!any) return "I8: synced before the scan has ended"; }
  if (cfg.cc && synced(s) && s->sess!=OFF) {
    int v1=1, v2=3;   /* client 0: w1 (byte 0, val 1), f, w4 (byte 2, val 3) */
    if ((s->T[2]==v2||s->Z[2]==v2) && !(s->T[0]==v1&&s->Z[0]==v1)) return "P-F4: synced, but a crash image of T has W2 without W1"; }
  if (cfg.w && s->wrun) for (int r=0;r<2;r++) if (s->W[r]!=1) {
    u8 m=rbytes(1<<r), p=s->gm&m;
    for (int i=0;i<cfg.nc;i++) if (s->c[i].pc==LEGS) p|=s->c[i].sp|s->c[i].tp;
    for (int j=0;j<cfg.nk;j++) if (s->k[j].pc==KWRITE) p|=s->k[j].tp;
    if (p&m) return "I2: a write is in flight to a leg outside W";
    for (int b=0;b<NB;b++) if (m>>b&1) {
      if (s->S[b]!=s->T[b]) return "I1/W: S!=T outside W";
      if (s->Z[b]!=s->T[b]) return "I1/W: T volatile outside W";
      if (s->sv>>b&1) return "I1/W: S volatile outside W"; } }
  if (s->ppc>=4 && s->ppc<6) for (int b=0;b<NB;b++) { if (s->S[b]!=s->T[b]) return "P-H: after pivot T differs from what S was"; if (s->S[b]!=s->Z[b]) return "P-H: after pivot T not stable"; }
  if (s->rec && s->ppc==6) for (int b=0;b<NB;b++) if (s->S[b]!=s->T[b] || s->S[b]!=s->Z[b]) return "P-H3: commit record durable, but clients write to S";
  return NULL;
}

/* ---- search ---- */
static u64 hash (const St *s) {
  const u8 *p=(const u8*)s; u64 h=0x9E3779B97F4A7C15ULL+(u64)cfg.seed*0xD1342543DE82EF95ULL; size_t n=sizeof *s;
  while (n>=8) { u64 w; memcpy(&w,p,8); h^=w; h*=0xff51afd7ed558ccdULL; h^=h>>32; p+=8; n-=8; }
  u64 w=0; memcpy(&w,p,n); h^=w; h*=0xc4ceb9fe1a85ec53ULL; h^=h>>29; h*=0xff51afd7ed558ccdULL; h^=h>>32; return h?h:1;
}
static u64 *keys; static u32 *idx; static u64 tsize;
static u32 *parent; static u8 *ord; static u32 nst; static u64 nedges;
static St *cur, *nxt; static size_t ncur, nnxt, capnxt, capcur;
static u32 curidx; static int ordn; static u32 stop_state=~0u; static const char *stop_why; 
static u32 *eto; static u8 *epr; static u64 ecap; static u32 *efirst; static u8 *flagbad; /* liveness */
static long maxst;

static u32 lookup (u64 h, int *isnew) {
  u64 i=h&(tsize-1);
  while (keys[i]) { if (keys[i]==h) { *isnew=0; return idx[i]; } i=(i+1)&(tsize-1); }
  keys[i]=h; idx[i]=nst; *isnew=1; return nst;
}
static void push (const St *n) {
  if (nnxt==capnxt) { capnxt=capnxt?capnxt*2:1024; nxt=realloc(nxt,capnxt*sizeof(St)); if(!nxt){puts("oom");exit(9);} }
  nxt[nnxt++]=*n;
}
static void bfs_sink (St *n, int proc) {
  int o=ordn++; nedges++;
  if (stop_state!=~0u) return;
  int nw; u32 id=lookup(hash(n),&nw);
  if (cfg.live) { if (nedges>=ecap) { ecap=ecap?ecap*2:1<<20; eto=realloc(eto,ecap*4); epr=realloc(epr,ecap); } eto[nedges-1]=id; epr[nedges-1]=proc; }
  if (!nw) return;
  parent[nst]=curidx; ord[nst]=o; nst++;
  if (cfg.live) flagbad[id]=(n->mode==2 && n->sess==ON && n->scan==9 && !(cfg.readyrule==9?0:(cfg.sync==2?n->synced:n->ready)));
  const char *w=check(n); if (w) { stop_state=id; stop_why=w; }
  push(n);
}
/* replay */
static int want; static St got; static char gotlab[256]; static int rcount;
static void rep_sink (St *n, int proc) { (void)proc; if (rcount++==want) { got=*n; strcpy(gotlab,lab); } }

static void show (const St *s) {
  printf("      S=%d%d%d%d T=%d%d%d%d",s->S[0],s->S[1],s->S[2],s->S[3],s->T[0],s->T[1],s->T[2],s->T[3]);
  if (cfg.pl||cfg.w||cfg.pv||cfg.cc) printf(" Tstable=%d%d%d%d U=[%s]",s->Z[0],s->Z[1],s->Z[2],s->Z[3],mb(s->U|s->UF));
  printf(" D=[%s]",mb(s->D)); if (cfg.w) printf(s->wrun?" W=%d%d":" W=all",s->W[0],s->W[1]); if (s->Q) printf(" Q=[%s]",mb(s->Q));
  printf(" synced=%d\n",synced(s));
}
static void init (St *s) {
  memset(s,0,sizeof *s); s->mode=cfg.mode0; s->sess=cfg.sess0; s->scan=cfg.job?0:9;
  s->tsw=cfg.tsw; s->tf=cfg.tf; s->sf=cfg.sf; s->ls=cfg.ls; s->ff=cfg.ff; s->cr=cfg.cr; s->pv=cfg.pv;
  for (int i=0;i<cfg.nc;i++) s->c[i].left=isseq[i]?nops[i]:cfg.left;
  if (cfg.job) { s->S[3]=15; }
  s->wrun=cfg.w && cfg.mode0!=0;
  if (cfg.job && cfg.w) s->W[1]=1;       /* where the two differ at first */
  if (cfg.dirty0) { s->D=cfg.dirty0; u8 m=gbytes(s->D); for (int b=0;b<NB;b++) if (m>>b&1) s->T[b]=s->Z[b]=14; if (cfg.w) for (int r=0;r<2;r++) if (rbytes(1<<r)&m) s->W[r]=1; }
  if (cfg.sync==2 && !reasons(s)) s->synced=s->ready=1;
}
static void trace (u32 id) {
  static u32 path[4096]; int n=0; for (u32 i=id;i!=~0u;i=parent[i]) path[n++]=i;
  St s; init(&s); labels=1; sink=rep_sink; printf("   0. start\n"); show(&s);
  for (int i=n-2;i>=0;i--) { want=ord[path[i]]; rcount=0; succ(&s); printf("  %2d. %s\n",n-1-i,gotlab); s=got; show(&s); }
  labels=0;
}
/* ---- liveness: fair cycle in the bad subgraph (Tarjan, iterative) ---- */
static int liveness (void) {
  u32 *low=calloc(nst,4),*num=calloc(nst,4),*st=malloc(4ul*nst),*cs=malloc(4ul*nst); u64 *ei=malloc(8ul*nst); u8 *on=calloc(nst,1); u32 *comp=malloc(4ul*nst);
  u32 cnt=0,ncomp=0; size_t sp=0,cp=0; memset(comp,0xff,4ul*nst);
  #define EF(v) efirst[v]
  #define EL(v) ((v)+1<nst?efirst[(v)+1]:nedges)
  int bad=0; u32 badst=0; u64 nbad=0;
  for (u32 r=0;r<nst;r++) if (flagbad[r]) nbad++;
  for (u32 r=0;r<nst;r++) { if (!flagbad[r]||num[r]) continue;
    cs[cp++]=r; num[r]=low[r]=++cnt; st[sp++]=r; on[r]=1; ei[r]=EF(r);
    while (cp) { u32 v=cs[cp-1];
      if (ei[v]<EL(v)) { u32 w=eto[ei[v]++]; if (!flagbad[w]) continue;
        if (!num[w]) { num[w]=low[w]=++cnt; st[sp++]=w; on[w]=1; ei[w]=EF(w); cs[cp++]=w; }
        else if (on[w] && num[w]<low[v]) low[v]=num[w]; }
      else { cp--; if (cp) { u32 u=cs[cp-1]; if (low[v]<low[u]) low[u]=low[v]; }
        if (low[v]==num[v]) { /* component */
          size_t b=sp; do { b--; on[st[b]]=0; comp[st[b]]=ncomp; } while (st[b]!=v);
          /* fair? */
          u32 has=0, dis=0; int edges=0;
          for (size_t x=b;x<sp;x++) { u32 s2=st[x], en=0; for (u64 e=EF(s2);e<EL(s2);e++) { en|=1u<<epr[e]; if (comp[eto[e]]==ncomp) { has|=1u<<epr[e]; edges++; } } dis|=~en; }
          u32 need=~(1u<<PROC_ENV);
          if ((edges || 0) && ((has|dis)&need)==need && !bad) { bad=1; badst=v; printf("   fair cycle of %zu states without the goal; procs moving: %x\n",sp-b,has); }
          sp=b; ncomp++; } } } }
  printf("   %llu states short of the goal, %u components\n",(unsigned long long)nbad,ncomp);
  if (bad) { printf("LIVENESS VIOLATED: a fair run never reaches the goal; a state on the cycle:\n"); trace(badst); }
  return bad;
}
static struct { const char *n; int *v; } keysn[] = {
#define K(x) {#x,&cfg.x}
  K(nc),K(nk),K(gs),K(left),K(mode0),K(tsw),K(tf),K(sf),K(ls),K(pl),K(ff),K(cr),K(w),K(pv),K(cu),K(ghost),K(tb),K(job),K(jmode),K(live),K(cc),K(torn),K(sess0),K(dirty0),K(ysync),K(lateack),
  K(clear),K(ugen),K(onesess),K(sync),K(retire),K(race),K(q),K(jobw),K(commit),K(lockround),K(markround),K(readyrule),K(restartq),K(fence),K(waitcnt),K(everything),K(endrec),K(tidyscan),
  K(nolock),K(nofifo),K(clearlate),K(copynoset),K(nosfailmark),K(notfailmark),K(scanfirst),K(clearouter),K(nodrain),K(nodraincopy),K(noU),K(nobroken),K(leave),K(leaveany),K(leaveearly),K(quiet),K(seed),K(reach)
};
static void parseops (int i, char *v) { nops[i]=0; for (char *t=strtok(v,",");t;t=strtok(NULL,",")) { ops[i][nops[i]].kind=t[0]; ops[i][nops[i]].mask=t[0]=='f'?0:strtol(t+1,0,16); nops[i]++; } }
int main (int argc, char **argv) {
  char d0[]="w3", d1[]="w3"; parseops(0,d0); parseops(1,d1); maxst=cfg.max;
  for (int a=1;a<argc;a++) { char *e=strchr(argv[a],'='); if (!e) { fprintf(stderr,"bad %s\n",argv[a]); return 2; } *e=0; int ok=0;
    if (!strcmp(argv[a],"max")) { maxst=atol(e+1); continue; }
    if (!strncmp(argv[a],"ops",3)||!strncmp(argv[a],"seq",3)) { char b[64]; int x=argv[a][3]?argv[a][3]-'0':-1;
      for (int i=0;i<MC;i++) if (x<0||x==i) { strcpy(b,e+1); parseops(i,b); isseq[i]=argv[a][0]=='s'; }
      continue; }
    if (!strcmp(argv[a],"fixed")) { int v=atoi(e+1); cfg.retire=v?2:0; cfg.q=v?2:0; cfg.clear=cfg.ugen=cfg.onesess=cfg.race=cfg.jobw=cfg.commit=cfg.lockround=cfg.markround=cfg.readyrule=cfg.restartq=cfg.everything=cfg.endrec=cfg.tidyscan=cfg.leave=v; cfg.sync=v?2:0; cfg.ysync=1; continue; }
    for (size_t k=0;k<sizeof keysn/sizeof*keysn;k++) if (!strcmp(argv[a],keysn[k].n)) { *keysn[k].v=atoi(e+1); ok=1; }
    if (!ok) { fprintf(stderr,"unknown key %s\n",argv[a]); return 2; } }
  ng=NB/cfg.gs;
  tsize=1; while (tsize<(u64)maxst*3/2) tsize<<=1;
  keys=calloc(tsize,8); idx=malloc(tsize*4); parent=malloc(4ul*(maxst+16)); ord=malloc(maxst+16);
  if (cfg.live) { flagbad=calloc(maxst+16,1); efirst=malloc(4ul*(maxst+16)); }
  clock_t t0=clock(); St s; init(&s); int nw; lookup(hash(&s),&nw); parent[0]=~0u; ord[0]=0; nst=1; push(&s);
  if (cfg.live) flagbad[0]=s.mode==2&&s.sess==ON&&s.scan==9&&!(cfg.sync==2?s.synced:s.ready);
  sink=bfs_sink; u32 base=0; int depth=0, trunc=0; u64 dead=0; u32 deadst=~0u; size_t peak=0;
  while (nnxt && stop_state==~0u) {
    St *t=cur; cur=nxt; nxt=t; size_t tc=capcur; capcur=capnxt; capnxt=tc; ncur=nnxt; nnxt=0; u32 lvl=base; base=nst; if (ncur>peak) peak=ncur;
    for (size_t i=0;i<ncur && stop_state==~0u;i++) {
      curidx=lvl+i; ordn=0; if (cfg.live) efirst[curidx]=nedges; succ(&cur[i]);
      if (!ordn) { int busy=cur[i].hold && cur[i].ppc<4; for (int c=0;c<cfg.nc;c++) if (cur[i].c[c].pc!=IDLE) busy=1; for (int k=0;k<cfg.nk;k++) if (cur[i].k[k].pc) busy=1;
        if (busy && deadst==~0u) { deadst=curidx; stop_state=curidx; stop_why="deadlock"; } dead++; }
      if ((long)nst>maxst) { trunc=1; goto out; }
    }
    depth++;
  }
out:
  if (stop_state!=~0u) {
    printf("VIOLATION: %s  (depth %d, %u states)\n",stop_why,depth,nst); if (!cfg.quiet) trace(stop_state); return 1; }
  printf("%s: %u states, %llu edges, depth %d, %llu final states, widest level %zu, %.1f s CPU, state %zu B\n",trunc?"TRUNCATED, no violation so far":"OK, exhausted",nst,(unsigned long long)nedges,depth,(unsigned long long)dead,peak,(double)(clock()-t0)/CLOCKS_PER_SEC,sizeof(St));
  if (cfg.live && !trunc) return liveness();
  return trunc?3:0;
}
