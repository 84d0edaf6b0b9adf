# SPDX-License-Identifier: BSD-3-Clause
# The protocol model.  It takes as long as it takes: no sanitizer here.

check_PROGRAMS += tests/model/mc
tests_model_mc_SOURCES = tests/model/mc.c
tests_model_mc_CFLAGS = -std=gnu11 -O2 $(WARN_CFLAGS)

TESTS += tests/model/test-model-subset.sh

EXTRA_DIST += \
	tests/model/README.md \
	tests/model/lib.sh \
	tests/model/run-fixed.sh tests/model/run-holes.sh \
	tests/model/run-spin.sh tests/model/test-model-subset.sh \
	tests/model/core.pml tests/model/gate.pml \
	tests/model/slots.pml tests/model/syncread.pml

check-model: tests/model/mc$(EXEEXT)
	MC='$(abs_top_builddir)/tests/model/mc$(EXEEXT)' \
		$(top_srcdir)/tests/model/run-fixed.sh
	MC='$(abs_top_builddir)/tests/model/mc$(EXEEXT)' \
		$(top_srcdir)/tests/model/run-holes.sh
.PHONY: check-model
