# SPDX-License-Identifier: BSD-3-Clause
# The simulator: the engine's own objects on fake legs, fake time and a seeded
# scheduler.  (No -I here: sched.h is also the name of a system header.)

check_PROGRAMS += tests/sim/sim tests/sim/test-sched tests/sim/test-intent

# The simulator's disks are small: so are regions of the intent file, and its
# pages have few of them, or there would be one.
small_intent = -DINTENT_REGION_MIN=512 -DINTENT_PAGE_BITS=4u
small_intent_sources = \
	common/intent/format.c common/intent/format.h \
	filters/mirror/engine/intent.c filters/mirror/engine/intent-head.c \
	filters/mirror/engine/intent.h filters/mirror/engine/intent-private.h \
	tests/sim/fake-intent.c tests/sim/fake-intent.h

tests_sim_sim_SOURCES = \
	tests/sim/checks.c tests/sim/checks-calls.c \
	tests/sim/checks-intent.c \
	tests/sim/checks-switch.c \
	tests/sim/context.c tests/sim/context.h \
	tests/sim/fake-checks.c tests/sim/fake-crash.c \
	tests/sim/fake-ghosts.c \
	tests/sim/fake-image.c tests/sim/fake-source.c \
	tests/sim/fake-target.c tests/sim/fakes.h \
	tests/sim/profile.c \
	tests/sim/scenarios.c tests/sim/scenarios-faults.c \
	tests/sim/scenarios-intent.c tests/sim/scenarios-table.c \
	tests/sim/scenarios.h \
	tests/sim/life.c tests/sim/orders.c \
	tests/sim/sched.c tests/sim/sched.h \
	tests/sim/sim.c tests/sim/sim.h \
	tests/sim/start.c \
	tests/sim/sync-sim.c \
	tests/sim/verify.c \
	tests/sim/workload.c \
	$(small_intent_sources)
tests_sim_sim_CPPFLAGS = $(AM_CPPFLAGS) $(small_intent)
tests_sim_sim_LDADD = libengine.la libdirty.la

tests_sim_test_intent_SOURCES = \
	tests/sim/context.c tests/sim/context.h \
	tests/sim/sched.c tests/sim/sched.h \
	tests/sim/sync-sim.c \
	tests/sim/test-intent.c \
	$(small_intent_sources)
tests_sim_test_intent_CPPFLAGS = $(AM_CPPFLAGS) $(small_intent)
tests_sim_test_intent_LDADD = libengine.la libdirty.la

tests_sim_test_sched_SOURCES = \
	tests/sim/context.c tests/sim/context.h \
	tests/sim/sched.c tests/sim/sched.h \
	tests/sim/sync-sim.c \
	tests/sim/test-sched.c

TESTS += tests/sim/test-sched tests/sim/test-intent tests/sim/test-sim.sh
EXTRA_DIST += tests/sim/README.md tests/sim/test-sim.sh

# make check-sim-long [SIM_SEEDS=N] [SIM_FIRST=N]: many more seeds, on all
# processors.
SIM_SEEDS = 100000
SIM_FIRST = 1000000
check-sim-long: tests/sim/sim$(EXEEXT)
	SIM_SEEDS='$(SIM_SEEDS)' SIM_FIRST='$(SIM_FIRST)' \
		$(abs_top_builddir)/run $(top_srcdir)/tests/sim/long.sh
.PHONY: check-sim-long
EXTRA_DIST += tests/sim/long.sh
