# SPDX-License-Identifier: BSD-3-Clause
# common/: knows nothing of nbdkit or libnbd.

noinst_LTLIBRARIES += libdirty.la libsync-posix.la
libdirty_la_SOURCES = \
	common/include/iszero.h common/include/range.h \
	common/utils/cleanup.h common/utils/errtext.h common/utils/sync.h \
	common/dirty/reasons.h \
	common/dirty/dirty.c common/dirty/dirty.h \
	common/dirty/tree.c common/dirty/tree.h \
	common/pace/pace.c common/pace/pace.h
libsync_posix_la_SOURCES = common/utils/sync-posix.c

include $(top_srcdir)/common/intent/local.mk
include $(top_srcdir)/common/qmp/local.mk
