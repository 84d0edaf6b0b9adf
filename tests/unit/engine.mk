# SPDX-License-Identifier: BSD-3-Clause
if HAVE_CHECK
# The engine.
engine_tests = check_gate check_jobstate check_rangelock check_retry
check_PROGRAMS += $(engine_tests)
TESTS += $(engine_tests)
engine_ldadd = libengine.la $(unit_ldadd)

check_gate_SOURCES = tests/unit/check_gate.c
check_gate_CFLAGS = $(unit_cflags)
check_gate_LDADD = $(engine_ldadd)

check_jobstate_SOURCES = tests/unit/check_jobstate.c
check_jobstate_CFLAGS = $(unit_cflags)
check_jobstate_LDADD = $(engine_ldadd)

check_rangelock_SOURCES = tests/unit/check_rangelock.c
check_rangelock_CFLAGS = $(unit_cflags)
check_rangelock_LDADD = $(engine_ldadd)

check_retry_SOURCES = tests/unit/check_retry.c
check_retry_CFLAGS = $(unit_cflags)
check_retry_LDADD = $(engine_ldadd)

endif HAVE_CHECK
