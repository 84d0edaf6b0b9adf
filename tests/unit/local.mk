# SPDX-License-Identifier: BSD-3-Clause
# One program for each module, with the library check.  Under valgrind and
# the sanitizers run them with CK_FORK=no.

if HAVE_CHECK

unit_tests = \
	check_dirty check_dirty_threads check_dirty_tree check_failpoint \
	check_intent_format check_intent_store check_pace check_range \
	check_shadow
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)

unit_cflags = $(AM_CFLAGS) $(CHECK_CFLAGS)
unit_ldadd = libdirty.la libintent.la libsync-posix.la $(CHECK_LIBS) -lpthread

check_dirty_SOURCES = tests/unit/check_dirty.c
check_dirty_CFLAGS = $(unit_cflags)
check_dirty_LDADD = $(unit_ldadd)

check_dirty_threads_SOURCES = tests/unit/check_dirty_threads.c
check_dirty_threads_CFLAGS = $(unit_cflags)
check_dirty_threads_LDADD = $(unit_ldadd)

check_dirty_tree_SOURCES = tests/unit/check_dirty_tree.c
check_dirty_tree_CFLAGS = $(unit_cflags)
check_dirty_tree_LDADD = $(unit_ldadd)

check_failpoint_SOURCES = tests/unit/check_failpoint.c \
	common/utils/failpoint.c common/utils/failpoint.h
check_failpoint_CPPFLAGS = $(AM_CPPFLAGS) -DMIRROR_FAILPOINTS=1
check_failpoint_CFLAGS = $(unit_cflags)
check_failpoint_LDADD = $(CHECK_LIBS) -lpthread

check_intent_format_SOURCES = tests/unit/check_intent_format.c
check_intent_format_CFLAGS = $(unit_cflags)
check_intent_format_LDADD = libintent.la $(unit_ldadd)

check_intent_store_SOURCES = tests/unit/check_intent_store.c
check_intent_store_CFLAGS = $(unit_cflags)
check_intent_store_LDADD = libintent.la $(unit_ldadd)

check_pace_SOURCES = tests/unit/check_pace.c
check_pace_CFLAGS = $(unit_cflags)
check_pace_LDADD = $(unit_ldadd)

check_range_SOURCES = tests/unit/check_range.c
check_range_CFLAGS = $(unit_cflags)
check_range_LDADD = $(unit_ldadd)

check_shadow_SOURCES = tests/unit/check_shadow.c \
	tests/lib/shadow.c tests/lib/shadow.h
check_shadow_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
check_shadow_CFLAGS = $(unit_cflags)
check_shadow_LDADD = $(CHECK_LIBS) -lpthread

endif HAVE_CHECK
