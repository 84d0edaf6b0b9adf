# SPDX-License-Identifier: BSD-3-Clause
# Fuzzing the control socket, and what reads an intent file: make fuzz
# [FUZZ_SECONDS=60], which needs clang.  make check runs the corpora without it.

fuzz_qmp_sources = \
	tests/fuzz/fuzz-qmp.c \
	tests/fuzz/world.c tests/fuzz/world.h \
	filters/mirror/arguments.c filters/mirror/commands.c \
	filters/mirror/control.c filters/mirror/control.h \
	filters/mirror/control-impl.h \
	filters/mirror/events.c \
	filters/mirror/params.c filters/mirror/params.h \
	filters/mirror/query.c \
	filters/mirror/session.c \
	filters/mirror/socket.c filters/mirror/socket.h \
	filters/mirror/target-uri.c filters/mirror/target-uri.h
fuzz_cppflags = $(AM_CPPFLAGS) -I$(top_srcdir)/filters/mirror \
	$(NBDKIT_CFLAGS) $(LIBNBD_CFLAGS) $(JANSSON_CFLAGS)

check_PROGRAMS += tests/fuzz/replay-qmp
tests_fuzz_replay_qmp_SOURCES = tests/fuzz/replay.c $(fuzz_qmp_sources)
tests_fuzz_replay_qmp_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_replay_qmp_LDADD = \
	libengine.la libdirty.la libintent.la libqmp.la libsync-posix.la \
	$(JANSSON_LIBS) -lpthread

fuzz_intent_sources = tests/fuzz/fuzz-intent.c
check_PROGRAMS += tests/fuzz/replay-intent
tests_fuzz_replay_intent_SOURCES = tests/fuzz/replay.c $(fuzz_intent_sources)
tests_fuzz_replay_intent_LDADD = \
	libengine.la libdirty.la libintent.la libsync-posix.la -lpthread

TESTS += tests/fuzz/test-fuzz-corpus.sh

fuzz:
	@$(MKDIR_P) tests/fuzz
	@top_srcdir='$(abs_top_srcdir)' top_builddir='$(abs_top_builddir)' \
	CPPFLAGS='-I$(abs_top_builddir) $(fuzz_cppflags)' \
	LIBS='$(JANSSON_LIBS)' \
	$(abs_top_srcdir)/tests/fuzz/fuzz.sh qmp $(fuzz_qmp_sources) \
	  $(libqmp_la_SOURCES) $(libengine_la_SOURCES) $(libdirty_la_SOURCES) $(libintent_la_SOURCES) \
	  $(libsync_posix_la_SOURCES)
	@top_srcdir='$(abs_top_srcdir)' top_builddir='$(abs_top_builddir)' \
	CPPFLAGS='-I$(abs_top_builddir) $(AM_CPPFLAGS)' \
	$(abs_top_srcdir)/tests/fuzz/fuzz.sh intent $(fuzz_intent_sources) \
	  $(libintent_la_SOURCES) $(libengine_la_SOURCES) $(libdirty_la_SOURCES) \
	  $(libsync_posix_la_SOURCES)
.PHONY: fuzz

clean-local:
	rm -rf tests/fuzz/found-qmp tests/fuzz/fuzz-qmp \
	  tests/fuzz/found-intent tests/fuzz/fuzz-intent

EXTRA_DIST += \
	tests/fuzz/fuzz.sh tests/fuzz/qmp.dict tests/fuzz/intent.dict \
	tests/fuzz/test-fuzz-corpus.sh \
	tests/fuzz/corpus-qmp tests/fuzz/corpus-intent
