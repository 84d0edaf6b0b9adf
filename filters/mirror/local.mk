# SPDX-License-Identifier: BSD-3-Clause
# The engine is a library of its own: the filter links it with
# sync-posix.c, the simulator links the same objects with its scheduler.

noinst_LTLIBRARIES += libengine.la
libengine_la_SOURCES = \
	common/utils/failpoint.c common/utils/failpoint.h \
	filters/mirror/engine/carry.c filters/mirror/engine/carry.h \
	filters/mirror/engine/compare.c filters/mirror/engine/compare.h \
	filters/mirror/engine/copier.c filters/mirror/engine/copier.h \
	filters/mirror/engine/copier-choose.c \
	filters/mirror/engine/copier-private.h \
	filters/mirror/engine/copy-rate.c filters/mirror/engine/copy-rate.h \
	filters/mirror/engine/flusher.c filters/mirror/engine/flusher.h \
	filters/mirror/engine/gate.c filters/mirror/engine/gate.h \
	filters/mirror/engine/hint.c filters/mirror/engine/hint.h \
	filters/mirror/engine/intent.c filters/mirror/engine/intent.h \
	filters/mirror/engine/intent-head.c \
	filters/mirror/engine/intent-private.h \
	filters/mirror/engine/job.c filters/mirror/engine/job.h \
	filters/mirror/engine/ending.c \
	filters/mirror/engine/job-error.c \
	filters/mirror/engine/job-make.c filters/mirror/engine/job-regime.c \
	filters/mirror/engine/job-tell.c filters/mirror/engine/job-tidy.c \
	filters/mirror/engine/job-verify.c \
	filters/mirror/engine/jobstate.c filters/mirror/engine/jobstate.h \
	filters/mirror/engine/latency.c filters/mirror/engine/latency.h \
	filters/mirror/engine/late.c filters/mirror/engine/late.h \
	filters/mirror/engine/legs.h \
	filters/mirror/engine/mirror.c filters/mirror/engine/mirror.h \
	filters/mirror/engine/pair.c filters/mirror/engine/pair.h \
	filters/mirror/engine/pivoted.c filters/mirror/engine/pivoted.h \
	filters/mirror/engine/pivoted-private.h \
	filters/mirror/engine/pivoted-session.c \
	filters/mirror/engine/rates.c filters/mirror/engine/rates.h \
	filters/mirror/engine/rangelock.c filters/mirror/engine/rangelock.h \
	filters/mirror/engine/retry.c filters/mirror/engine/retry.h \
	filters/mirror/engine/scan.c filters/mirror/engine/scan.h \
	filters/mirror/engine/job-session.c \
	filters/mirror/engine/source-flusher.c \
	filters/mirror/engine/source-flusher.h \
	filters/mirror/engine/status.c \
	filters/mirror/engine/suspects.c filters/mirror/engine/suspects.h \
	filters/mirror/engine/switch.c filters/mirror/engine/switch.h \
	filters/mirror/engine/tee.c filters/mirror/engine/tee.h \
	filters/mirror/engine/verbs.c \
	filters/mirror/engine/verdict.c filters/mirror/engine/verdict.h \
	filters/mirror/engine/verify.c filters/mirror/engine/verify.h \
	filters/mirror/engine/waits.c filters/mirror/engine/waits.h \
	filters/mirror/engine/yield.c filters/mirror/engine/yield.h

# The leg to the target: a library, too, since the plugin nbdsource has it.
noinst_LTLIBRARIES += libtarget.la
libtarget_la_SOURCES = \
	filters/mirror/target.c filters/mirror/target.h \
	filters/mirror/target-attempt.c \
	filters/mirror/target-blocks.c filters/mirror/target-conn.c \
	filters/mirror/target-connect.c filters/mirror/target-extents.c \
	filters/mirror/target-fit.c \
	filters/mirror/target-private.h filters/mirror/target-self.c \
	filters/mirror/target-socket.c \
	filters/mirror/target-uri.c filters/mirror/target-uri.h \
	filters/mirror/target-wait.c filters/mirror/target-zero.c
libtarget_la_CPPFLAGS = $(AM_CPPFLAGS) $(LIBNBD_CFLAGS)

filter_LTLIBRARIES = nbdkit-mirror-filter.la
nbdkit_mirror_filter_la_SOURCES = \
	filters/mirror/keys.c \
	filters/mirror/params.c filters/mirror/params.h \
	filters/mirror/arguments.c \
	filters/mirror/beneath.c filters/mirror/beneath.h \
	filters/mirror/commands.c \
	filters/mirror/control.c filters/mirror/control.h \
	filters/mirror/control-impl.h \
	filters/mirror/eventlog.c filters/mirror/eventlog.h \
	filters/mirror/events.c filters/mirror/query.c \
	filters/mirror/session.c \
	filters/mirror/socket.c filters/mirror/socket.h \
	filters/mirror/facts.c filters/mirror/facts.h \
	filters/mirror/filter.c \
	filters/mirror/instance.c filters/mirror/instance.h \
	filters/mirror/instance-end.c \
	filters/mirror/instance-intent.c \
	filters/mirror/instance-private.h \
	filters/mirror/instance-target.c \
	filters/mirror/intent-plan.c filters/mirror/intent-plan.h \
	filters/mirror/readonly.c filters/mirror/readonly.h \
	filters/mirror/source.c filters/mirror/source.h \
	filters/mirror/place.c filters/mirror/place.h
nbdkit_mirror_filter_la_CPPFLAGS = $(AM_CPPFLAGS) \
	$(NBDKIT_CFLAGS) $(LIBNBD_CFLAGS) $(JANSSON_CFLAGS)
nbdkit_mirror_filter_la_LIBADD = \
	libtarget.la libengine.la libdirty.la libintent.la libqmp.la \
	libsync-posix.la \
	$(LIBNBD_LIBS) $(JANSSON_LIBS) -lpthread
# nodelete: threads and TLS destructors of ours and of libnbd may outlive
# dlclose at nbdkit's exit.
nbdkit_mirror_filter_la_LDFLAGS = -module -avoid-version -shared \
	-export-symbols-regex '^(filter_init|mirror_debug_.*)$$' \
	-Wl,-z,nodelete
