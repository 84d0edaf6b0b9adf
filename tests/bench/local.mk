# SPDX-License-Identifier: BSD-3-Clause
# Benchmarks: neither built nor run by make check.

EXTRA_PROGRAMS += tests/bench/bench-bitmap
tests_bench_bench_bitmap_SOURCES = tests/bench/bench-bitmap.c
tests_bench_bench_bitmap_LDADD = libdirty.la libsync-posix.la -lpthread
CLEANFILES += tests/bench/bench-bitmap$(EXEEXT)

bench-bitmap: tests/bench/bench-bitmap$(EXEEXT)
	tests/bench/bench-bitmap$(EXEEXT)
.PHONY: bench-bitmap

bench-idle: all
	$(TESTS_ENVIRONMENT) ./run $(top_srcdir)/tests/bench/bench-idle
.PHONY: bench-idle

bench-metrics: all
	$(TESTS_ENVIRONMENT) ./run $(top_srcdir)/tests/bench/bench-metrics
.PHONY: bench-metrics
bench-intent: all
	$(TESTS_ENVIRONMENT) ./run $(PYTHON) $(top_srcdir)/tests/bench/bench-intent
.PHONY: bench-intent

EXTRA_DIST += tests/bench/bench-intent tests/bench/bench-idle tests/bench/bench-metrics

bench-uring: all
	$(TESTS_ENVIRONMENT) ./run $(PYTHON) $(top_srcdir)/tests/bench/bench-uring
.PHONY: bench-uring
EXTRA_DIST += tests/bench/bench-uring

bench-left: all
	$(MAKE) $(AM_MAKEFLAGS) tests/lib/mirrorcmp
	$(TESTS_ENVIRONMENT) ./run $(PYTHON) $(top_srcdir)/tests/bench/bench-left
.PHONY: bench-left
EXTRA_DIST += tests/bench/bench-left

# scripts/bench, which builds by itself.
EXTRA_DIST += \
	tests/bench/benchcommand.py \
	tests/bench/benchcopy.py \
	tests/bench/benchgoals.py \
	tests/bench/benchload.py \
	tests/bench/benchplot.py \
	tests/bench/benchreport.py \
	tests/bench/benchrows.py \
	tests/bench/benchservers.py
