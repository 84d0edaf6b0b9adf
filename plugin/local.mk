# SPDX-License-Identifier: BSD-3-Clause
# The plugin uring.  Everything but nbdkit's callbacks is a library, for the
# unit tests; without liburing there are no rings in it.

noinst_LTLIBRARIES += liburing-plugin.la
liburing_plugin_la_SOURCES = \
	plugin/blocklock.c plugin/blocklock.h \
	plugin/bounce.c plugin/bounce.h \
	plugin/disk.c plugin/disk.h \
	plugin/extents.c \
	plugin/io.c \
	plugin/pagecache.c plugin/pagecache.h \
	plugin/ring.c plugin/ring.h \
	plugin/rw.c plugin/rw.h \
	plugin/syncs.c plugin/syncs.h \
	plugin/transfer.c plugin/transfer.h \
	plugin/zero.c
liburing_plugin_la_CPPFLAGS = $(AM_CPPFLAGS) $(LIBURING_CFLAGS)

plugin_LTLIBRARIES = nbdkit-uring-plugin.la
nbdkit_uring_plugin_la_SOURCES = plugin/plugin.c
nbdkit_uring_plugin_la_CPPFLAGS = $(AM_CPPFLAGS) \
	-I$(top_srcdir)/plugin $(NBDKIT_CFLAGS)
nbdkit_uring_plugin_la_LIBADD = \
	liburing-plugin.la libsync-posix.la $(LIBURING_LIBS) -lpthread
nbdkit_uring_plugin_la_LDFLAGS = -module -avoid-version -shared \
	-export-symbols-regex '^plugin_init$$' -Wl,-z,nodelete
