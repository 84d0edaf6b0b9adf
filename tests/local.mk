# SPDX-License-Identifier: BSD-3-Clause
include $(top_srcdir)/tests/unit/local.mk
include $(top_srcdir)/tests/unit/modules.mk
include $(top_srcdir)/tests/sim/local.mk
include $(top_srcdir)/tests/model/local.mk
include $(top_srcdir)/tests/func/local.mk
include $(top_srcdir)/tests/fuzz/local.mk
include $(top_srcdir)/tests/bench/local.mk
include $(top_srcdir)/tests/mutants/local.mk
include $(top_srcdir)/tests/vm/local.mk
include $(top_srcdir)/tests/debian13/local.mk

EXTRA_DIST += tests/tsan.supp tests/valgrind.supp
