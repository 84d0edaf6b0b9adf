# SPDX-License-Identifier: BSD-3-Clause
# The plugin nbdsource: a source that is an NBD server, over the code of the
# leg to the target.

plugin_LTLIBRARIES += nbdkit-nbdsource-plugin.la
nbdkit_nbdsource_plugin_la_SOURCES = \
	nbdsource/plugin.c \
	nbdsource/session.c nbdsource/session.h
nbdkit_nbdsource_plugin_la_CPPFLAGS = $(AM_CPPFLAGS) \
	-I$(top_srcdir)/filters/mirror $(NBDKIT_CFLAGS)
nbdkit_nbdsource_plugin_la_LIBADD = \
	libtarget.la libsync-posix.la $(LIBNBD_LIBS) -lpthread
# nodelete: as the filter's.
nbdkit_nbdsource_plugin_la_LDFLAGS = -module -avoid-version -shared \
	-export-symbols-regex '^plugin_init$$' -Wl,-z,nodelete
