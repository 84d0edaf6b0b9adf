# SPDX-License-Identifier: BSD-3-Clause
if HAVE_CHECK
# The engine.
engine_tests = \
	check_flusher check_gate check_pivoted \
	check_intent check_intent_crash check_intent_errors \
	check_intent_sizes check_intent_threads check_jobstate check_late \
	check_latency check_rangelock check_retry check_source_flusher \
	check_suspects check_verdict check_waits check_yield
check_PROGRAMS += $(engine_tests)
TESTS += $(engine_tests)
engine_ldadd = libengine.la $(unit_ldadd)

check_pivoted_SOURCES = tests/unit/check_pivoted.c
check_pivoted_CFLAGS = $(unit_cflags)
check_pivoted_LDADD = $(engine_ldadd)

check_flusher_SOURCES = tests/unit/check_flusher.c
check_flusher_CFLAGS = $(unit_cflags)
check_flusher_LDADD = $(engine_ldadd)

check_gate_SOURCES = tests/unit/check_gate.c
check_gate_CFLAGS = $(unit_cflags)
check_gate_LDADD = $(engine_ldadd)

intent_fake = \
	tests/unit/intent-fake.c tests/unit/intent-fake.h \
	tests/unit/intent-help.c tests/unit/intent-help.h

check_intent_SOURCES = tests/unit/check_intent.c $(intent_fake)
check_intent_CFLAGS = $(unit_cflags)
check_intent_LDADD = $(engine_ldadd)

check_intent_crash_SOURCES = tests/unit/check_intent_crash.c \
	tests/unit/intent-model.c tests/unit/intent-model.h $(intent_fake)
check_intent_crash_CFLAGS = $(unit_cflags)
check_intent_crash_LDADD = $(engine_ldadd)

check_intent_errors_SOURCES = tests/unit/check_intent_errors.c $(intent_fake)
check_intent_errors_CFLAGS = $(unit_cflags)
check_intent_errors_LDADD = $(engine_ldadd)

check_intent_sizes_SOURCES = tests/unit/check_intent_sizes.c $(intent_fake)
check_intent_sizes_CFLAGS = $(unit_cflags)
check_intent_sizes_LDADD = $(engine_ldadd)

check_intent_threads_SOURCES = tests/unit/check_intent_threads.c $(intent_fake)
check_intent_threads_CFLAGS = $(unit_cflags)
check_intent_threads_LDADD = $(engine_ldadd)

check_jobstate_SOURCES = tests/unit/check_jobstate.c
check_jobstate_CFLAGS = $(unit_cflags)
check_jobstate_LDADD = $(engine_ldadd)

check_yield_SOURCES = tests/unit/check_yield.c
check_yield_CFLAGS = $(unit_cflags)
check_yield_LDADD = $(engine_ldadd)

check_late_SOURCES = tests/unit/check_late.c
check_late_CFLAGS = $(unit_cflags)
check_late_LDADD = $(engine_ldadd)

check_latency_SOURCES = tests/unit/check_latency.c
check_latency_CFLAGS = $(unit_cflags)
check_latency_LDADD = $(engine_ldadd)

check_rangelock_SOURCES = tests/unit/check_rangelock.c
check_rangelock_CFLAGS = $(unit_cflags)
check_rangelock_LDADD = $(engine_ldadd)

check_retry_SOURCES = tests/unit/check_retry.c
check_retry_CFLAGS = $(unit_cflags)
check_retry_LDADD = $(engine_ldadd)

check_source_flusher_SOURCES = tests/unit/check_source_flusher.c
check_source_flusher_CFLAGS = $(unit_cflags)
check_source_flusher_LDADD = $(engine_ldadd)

check_suspects_SOURCES = tests/unit/check_suspects.c
check_suspects_CFLAGS = $(unit_cflags)
check_suspects_LDADD = $(engine_ldadd)

check_verdict_SOURCES = tests/unit/check_verdict.c
check_verdict_CFLAGS = $(unit_cflags)
check_verdict_LDADD = $(engine_ldadd)

check_waits_SOURCES = tests/unit/check_waits.c
check_waits_CFLAGS = $(unit_cflags)
check_waits_LDADD = $(engine_ldadd)

# The command.
ctl_tests = check_screen
check_PROGRAMS += $(ctl_tests)
TESTS += $(ctl_tests)

check_screen_SOURCES = tests/unit/check_screen.c \
	ctl/look.c ctl/look.h ctl/screen.c ctl/screen.h ctl/size.c ctl/size.h
check_screen_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/ctl $(JANSSON_CFLAGS)
check_screen_CFLAGS = $(unit_cflags)
check_screen_LDADD = $(JANSSON_LIBS) $(CHECK_LIBS)

# QMP.
qmp_tests = check_framer check_verbs
check_PROGRAMS += $(qmp_tests)
TESTS += $(qmp_tests)
qmp_ldadd = libqmp.la libsync-posix.la $(JANSSON_LIBS) $(CHECK_LIBS) -lpthread

check_framer_SOURCES = tests/unit/check_framer.c
check_framer_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
check_framer_CFLAGS = $(unit_cflags)
check_framer_LDADD = $(qmp_ldadd)

check_verbs_SOURCES = tests/unit/check_verbs.c
check_verbs_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
check_verbs_CFLAGS = $(unit_cflags)
check_verbs_LDADD = $(qmp_ldadd)

# The target leg, against real servers and against servers that misbehave.
target_tests = \
	check_eventlog check_intent_plan check_params check_place \
	check_readonly check_target check_target_blocks check_target_connect \
	check_target_peer check_target_self check_target_send
check_PROGRAMS += $(target_tests)
TESTS += $(target_tests)
target_sources = \
	filters/mirror/target.c filters/mirror/target.h \
	filters/mirror/target-attempt.c \
	filters/mirror/target-blocks.c filters/mirror/target-conn.c \
	filters/mirror/target-connect.c filters/mirror/target-extents.c \
	filters/mirror/target-fit.c \
	filters/mirror/target-private.h filters/mirror/target-socket.c \
	filters/mirror/target-uri.c filters/mirror/target-uri.h \
	filters/mirror/target-wait.c filters/mirror/target-zero.c \
	tests/unit/target-help.h
target_cppflags = \
	$(AM_CPPFLAGS) -I$(top_srcdir)/filters/mirror $(LIBNBD_CFLAGS)
target_ldadd = libsync-posix.la $(LIBNBD_LIBS) $(CHECK_LIBS) -lpthread

check_target_SOURCES = tests/unit/check_target.c \
	filters/mirror/target-self.c \
	tests/unit/target-server.c tests/unit/target-server.h \
	$(target_sources)
check_target_CPPFLAGS = $(target_cppflags)
check_target_CFLAGS = $(unit_cflags)
check_target_LDADD = $(target_ldadd)

# Its allocations can be made to fail.
check_target_blocks_SOURCES = tests/unit/check_target_blocks.c \
	tests/unit/target-peer.c tests/unit/target-peer.h \
	$(target_sources)
check_target_blocks_CPPFLAGS = $(target_cppflags)
check_target_blocks_CFLAGS = $(unit_cflags)
check_target_blocks_LDFLAGS = -Wl,--wrap=malloc -Wl,--wrap=calloc
check_target_blocks_LDADD = $(target_ldadd)

check_eventlog_SOURCES = tests/unit/check_eventlog.c \
	filters/mirror/eventlog.c filters/mirror/eventlog.h
check_eventlog_CPPFLAGS = $(target_cppflags)
check_eventlog_CFLAGS = $(unit_cflags)
check_eventlog_LDADD = $(engine_ldadd)

check_intent_plan_SOURCES = tests/unit/check_intent_plan.c \
	filters/mirror/intent-plan.c filters/mirror/intent-plan.h \
	filters/mirror/params.c filters/mirror/params.h \
	filters/mirror/place.c filters/mirror/place.h \
	filters/mirror/target-uri.c filters/mirror/target-uri.h
check_intent_plan_CPPFLAGS = $(target_cppflags)
check_intent_plan_CFLAGS = $(unit_cflags)
check_intent_plan_LDADD = libintent.la $(CHECK_LIBS)

check_params_SOURCES = tests/unit/check_params.c \
	filters/mirror/keys.c \
	filters/mirror/params.c filters/mirror/params.h
check_params_CPPFLAGS = $(target_cppflags)
check_params_CFLAGS = $(unit_cflags)
check_params_LDADD = $(CHECK_LIBS)

# Its getaddrinfo and connect are its own.
check_target_connect_SOURCES = tests/unit/check_target_connect.c \
	tests/unit/target-peer.c tests/unit/target-peer.h \
	$(target_sources)
check_target_connect_CPPFLAGS = $(target_cppflags)
check_target_connect_CFLAGS = $(unit_cflags)
check_target_connect_LDADD = $(target_ldadd) -ldl

check_place_SOURCES = tests/unit/check_place.c \
	filters/mirror/place.c filters/mirror/place.h \
	filters/mirror/target-uri.c filters/mirror/target-uri.h
check_place_CPPFLAGS = $(target_cppflags)
check_place_CFLAGS = $(unit_cflags)
check_place_LDADD = $(CHECK_LIBS)

check_readonly_SOURCES = tests/unit/check_readonly.c \
	filters/mirror/readonly.c filters/mirror/readonly.h
check_readonly_CPPFLAGS = $(target_cppflags)
check_readonly_CFLAGS = $(unit_cflags)
check_readonly_LDADD = $(CHECK_LIBS)

check_target_self_SOURCES = tests/unit/check_target_self.c \
	filters/mirror/target-self.c filters/mirror/target-private.h
check_target_self_CPPFLAGS = $(target_cppflags)
check_target_self_CFLAGS = $(unit_cflags)
check_target_self_LDADD = $(CHECK_LIBS)

check_target_peer_SOURCES = tests/unit/check_target_peer.c \
	tests/unit/target-peer.c tests/unit/target-peer.h \
	$(target_sources)
check_target_peer_CPPFLAGS = $(target_cppflags)
check_target_peer_CFLAGS = $(unit_cflags)
check_target_peer_LDADD = $(target_ldadd)

# A call of libnbd can be held up.
check_target_send_SOURCES = tests/unit/check_target_send.c \
	tests/unit/target-peer.c tests/unit/target-peer.h \
	$(target_sources)
check_target_send_CPPFLAGS = $(target_cppflags)
check_target_send_CFLAGS = $(unit_cflags)
check_target_send_LDFLAGS = -Wl,--wrap=nbd_aio_pwrite
check_target_send_LDADD = $(target_ldadd)

# The plugin uring.  What its system calls answer is the test's choice.
plugin_tests = check_blocklock check_uring check_uring_sync
check_PROGRAMS += $(plugin_tests)
TESTS += $(plugin_tests)
plugin_cppflags = $(AM_CPPFLAGS) -I$(top_srcdir)/plugin $(LIBURING_CFLAGS)
plugin_ldadd = liburing-plugin.la libsync-posix.la $(LIBURING_LIBS) \
	$(CHECK_LIBS) -lpthread

check_blocklock_SOURCES = tests/unit/check_blocklock.c
check_blocklock_CPPFLAGS = $(plugin_cppflags)
check_blocklock_CFLAGS = $(unit_cflags)
check_blocklock_LDADD = $(plugin_ldadd)

uring_help = tests/unit/uring-help.c tests/unit/uring-help.h

check_uring_SOURCES = tests/unit/check_uring.c $(uring_help)
check_uring_CPPFLAGS = $(plugin_cppflags)
check_uring_CFLAGS = $(unit_cflags)
check_uring_LDFLAGS = -Wl,--wrap=preadv2 -Wl,--wrap=pwritev2 \
	-Wl,--wrap=statx
if HAVE_LIBURING
check_uring_LDFLAGS += -Wl,--wrap=io_uring_submit_and_wait
endif
check_uring_LDADD = $(plugin_ldadd)

check_uring_sync_SOURCES = tests/unit/check_uring_sync.c $(uring_help)
check_uring_sync_CPPFLAGS = $(plugin_cppflags)
check_uring_sync_CFLAGS = $(unit_cflags)
check_uring_sync_LDFLAGS = -Wl,--wrap=preadv2 -Wl,--wrap=pwritev2 \
	-Wl,--wrap=fdatasync -Wl,--wrap=sync_file_range \
	-Wl,--wrap=fallocate -Wl,--wrap=ioctl
check_uring_sync_LDADD = $(plugin_ldadd)

endif HAVE_CHECK
