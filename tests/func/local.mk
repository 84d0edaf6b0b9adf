# SPDX-License-Identifier: BSD-3-Clause
# Functional tests: the real filter between real clients and real servers.
# Shell tests are run by ./run, those in Python by ./run $(PYTHON).

TEST_EXTENSIONS = .py
PY_LOG_COMPILER = $(abs_top_builddir)/run $(PYTHON)

# Tools, not what is tested: never built with a sanitizer (an unchanged nbdkit
# loads the plugin).
tool_cflags = -std=gnu11 $(WARN_CFLAGS)

check_PROGRAMS += tests/lib/mirrorcmp tests/lib/oracle

tests_lib_mirrorcmp_SOURCES = tests/lib/mirrorcmp.c
tests_lib_mirrorcmp_CPPFLAGS = $(AM_CPPFLAGS) $(LIBNBD_CFLAGS)
tests_lib_mirrorcmp_CFLAGS = $(tool_cflags)
tests_lib_mirrorcmp_LDADD = $(LIBNBD_LIBS)

tests_lib_oracle_SOURCES = \
	tests/lib/histogram.h \
	tests/lib/oracle.c tests/lib/oracle.h \
	tests/lib/oracle-connect.c \
	tests/lib/oracle-options.c \
	tests/lib/shadow.c tests/lib/shadow.h
tests_lib_oracle_CPPFLAGS = $(AM_CPPFLAGS) $(LIBNBD_CFLAGS)
tests_lib_oracle_CFLAGS = $(tool_cflags)
tests_lib_oracle_LDADD = $(LIBNBD_LIBS) -lpthread

check_LTLIBRARIES += tests/lib/liar.la
tests_lib_liar_la_SOURCES = tests/lib/liar.c
tests_lib_liar_la_CPPFLAGS = $(AM_CPPFLAGS) $(NBDKIT_CFLAGS)
tests_lib_liar_la_CFLAGS = $(tool_cflags)
tests_lib_liar_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere

check_LTLIBRARIES += tests/lib/sick.la
tests_lib_sick_la_SOURCES = tests/lib/sick.c
tests_lib_sick_la_CPPFLAGS = $(AM_CPPFLAGS) $(NBDKIT_CFLAGS)
tests_lib_sick_la_CFLAGS = $(tool_cflags)
tests_lib_sick_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere

check_PROGRAMS += tests/lib/nbdfsx

tests_lib_nbdfsx_SOURCES = \
	tests/lib/nbdfsx.c tests/lib/nbdfsx.h \
	tests/lib/nbdfsx-expect.c \
	tests/lib/nbdfsx-ops.c \
	tests/lib/nbdfsx-server.c \
	tests/lib/nbdfsx-shrink.c
tests_lib_nbdfsx_CPPFLAGS = $(AM_CPPFLAGS) $(LIBNBD_CFLAGS)
tests_lib_nbdfsx_CFLAGS = $(tool_cflags)
tests_lib_nbdfsx_LDADD = $(LIBNBD_LIBS)

check_LTLIBRARIES += tests/lib/caps.la
tests_lib_caps_la_SOURCES = tests/lib/caps.c
tests_lib_caps_la_CPPFLAGS = $(AM_CPPFLAGS) $(NBDKIT_CFLAGS)
tests_lib_caps_la_CFLAGS = $(tool_cflags)
tests_lib_caps_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere

check_LTLIBRARIES += tests/tools/lossy-plugin.la
tests_tools_lossy_plugin_la_SOURCES = tests/tools/lossy-plugin.c
tests_tools_lossy_plugin_la_CPPFLAGS = $(AM_CPPFLAGS) $(NBDKIT_CFLAGS)
tests_tools_lossy_plugin_la_CFLAGS = $(tool_cflags)
tests_tools_lossy_plugin_la_LDFLAGS = \
	-module -avoid-version -shared -rpath /nowhere
tests_tools_lossy_plugin_la_LIBADD = -lpthread

check_PROGRAMS += tests/tools/no-uring
tests_tools_no_uring_SOURCES = tests/tools/no-uring.c
tests_tools_no_uring_CFLAGS = $(tool_cflags)

check_LTLIBRARIES += tests/lib/keep-locales.la
tests_lib_keep_locales_la_SOURCES = tests/lib/keep-locales.c
tests_lib_keep_locales_la_CFLAGS = $(tool_cflags)
tests_lib_keep_locales_la_LDFLAGS = \
	-module -avoid-version -shared -rpath /nowhere

check_LTLIBRARIES += tests/lib/nofork.la
tests_lib_nofork_la_SOURCES = tests/lib/nofork.c
tests_lib_nofork_la_CFLAGS = $(tool_cflags)
tests_lib_nofork_la_LDFLAGS = \
	-module -avoid-version -shared -rpath /nowhere

# What load, time or chance make worth repeating for longer.
stress_tests = \
	tests/func/test-background.sh \
	tests/func/test-background-never-waits.sh \
	tests/func/test-bitmap-ends.py \
	tests/func/test-bitmap-kill.py \
	tests/func/test-bitmap-power.py \
	tests/func/test-block-sizes.sh \
	tests/func/test-converges-under-load.sh \
	tests/func/test-dead-cuts.py \
	tests/func/test-dead-ghost.py \
	tests/func/test-dead-journal.py \
	tests/func/test-dead-policies.py \
	tests/func/test-dead-power.py \
	tests/func/test-dead-reconnects.py \
	tests/func/test-dead-source.py \
	tests/func/test-dead-swapped.py \
	tests/func/test-dead-target.py \
	tests/func/test-dead-timeout.py \
	tests/func/test-mode-storm.py \
	tests/func/test-nbdfsx.sh \
	tests/func/test-nbdsource.py \
	tests/func/test-overlap.py \
	tests/func/test-servers.sh \
	tests/func/test-source-errors.sh \
	tests/func/test-pivot.py \
	tests/func/test-pivot-emulation.sh \
	tests/func/test-pivot-faults.py \
	tests/func/test-run-again.py \
	tests/func/test-run-delta.py \
	tests/func/test-policies.py \
	tests/func/test-start-race.py \
	tests/func/test-target-dies.sh \
	tests/func/test-target-lies.py \
	tests/func/test-target-matrix.py \
	tests/func/test-verify.py \
	tests/func/test-write-blocking.sh

# What needs a build with --enable-failpoints, all of it or in part.
failpoint_tests = \
	tests/func/test-bitmap-errors.py \
	tests/func/test-bitmap-failpoints.py \
	tests/func/test-bitmap-hostile.py \
	tests/func/test-failpoints.py

# The plugin uring.
uring_tests = \
	tests/func/test-uring-durable.py \
	tests/func/test-uring-refused.py \
	tests/func/test-uring-same.py \
	tests/func/test-uring-trouble.py

stress_tests += $(uring_tests)

# nbdmirror run, as far as it is not among the former.
run_tests = \
	tests/func/test-run.py \
	tests/func/test-run-control.py \
	tests/func/test-run-ends.py \
	tests/func/test-run-local.py \
	tests/func/test-run-target.py \
	tests/func/test-run-usage.py

func_tests = \
	$(failpoint_tests) \
	$(stress_tests) \
	tests/func/test-bad-input.sh \
	tests/func/test-bad-input-daemon.sh \
	tests/func/test-bench.py \
	tests/func/test-bitmap-pivoted.py \
	tests/func/test-block-status.py \
	tests/func/test-bitmap-table.py \
	tests/func/test-bitmap-order.py \
	tests/func/test-completion.py \
	tests/func/test-cancel.sh \
	tests/func/test-control-crowd.py \
	tests/func/test-control-hostile.py \
	tests/func/test-control-hung.py \
	tests/func/test-copy-mode-auto.py \
	tests/func/test-docs-examples.py \
	tests/func/test-end-flushes.py \
	tests/func/test-exit-status.py \
	tests/func/test-fio-verify.sh \
	tests/func/test-flags.py \
	tests/func/test-hold-fence.py \
	tests/func/test-idle.sh \
	tests/func/test-large.sh \
	tests/func/test-left-to-copier.py \
	tests/func/test-metrics.py \
	tests/func/test-mirrorcmp.sh \
	tests/func/test-nbdfsx-faults.sh \
	tests/func/test-nbdmirror.py \
	tests/func/test-qmp-clients.py \
	tests/func/test-qmp-errors.py \
	tests/func/test-qmp-input.py \
	tests/func/test-qmp-job.py \
	tests/func/test-qmp-live.py \
	tests/func/test-qmp-negotiation.py \
	tests/func/test-qmp-replay.py \
	tests/func/test-qmp-socket.py \
	tests/func/test-qmp-verbs.py \
	tests/func/test-query-mirror.py \
	tests/func/test-oracle.sh \
	tests/func/test-recipes.py \
	$(run_tests) \
	tests/func/test-same-server.sh \
	tests/func/test-shutdown.sh \
	tests/func/test-source-sizes.py \
	tests/func/test-sources.sh \
	tests/func/test-speed.py \
	tests/func/test-switch-fails.py \
	tests/func/test-systemd.py \
	tests/func/test-systemd-sandbox.py \
	tests/func/test-sync-none.py \
	tests/func/test-target-flush.py \
	tests/func/test-target-self.sh \
	tests/func/test-thin.sh \
	tests/func/test-tools-chaos.py \
	tests/func/test-tools-lossy.py \
	tests/func/test-tools-lying.py \
	tests/func/test-unaligned.py \
	tests/func/test-watch.py \
	tests/func/test-zero-fallback.py

TESTS += $(func_tests)
EXTRA_DIST += \
	$(func_tests) \
	tests/func/data/qemu-storage-daemon-10.qmp \
	tests/lib/bitmap.py \
	tests/lib/restarts.py \
	tests/lib/chaos.py \
	tests/lib/dead.py \
	tests/lib/failpoints.py \
	tests/lib/fakeproxy.py \
	tests/lib/functions.sh \
	tests/lib/fusedisk.py \
	tests/lib/journal.py \
	tests/lib/lossy.py \
	tests/lib/mirrortest.py \
	tests/lib/qmp.py \
	tests/lib/qmpreplay.py \
	tests/lib/runtest.py \
	tests/lib/unitfile.py \
	tests/lib/uringtest.py \
	tests/lib/under-load.sh \
	tests/tools/chaosconn.py \
	tests/tools/chaosproxy.py \
	tests/tools/lyingserver.py

# docs/scoreboard.md by what is measured now; STRESS=1: at length.
scoreboard: all
	$(MAKE) $(AM_MAKEFLAGS) check TESTS=
	top_builddir=$(abs_top_builddir) top_srcdir=$(abs_top_srcdir) \
	  ./run $(PYTHON) $(top_srcdir)/scripts/scoreboard \
	  $(top_srcdir)/docs/scoreboard.md
.PHONY: scoreboard

.PHONY: check-stress
check-stress: all
	STRESS=1 $(MAKE) $(AM_MAKEFLAGS) check \
	  TESTS='$(stress_tests) $(failpoint_tests)'

# Only these; without failpoints they are skipped.
.PHONY: check-failpoints
check-failpoints: all
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(failpoint_tests)' \
	  check_PROGRAMS='tests/lib/mirrorcmp$(EXEEXT) tests/lib/oracle$(EXEEXT)'
