# SPDX-License-Identifier: BSD-3-Clause
# The command nbdmirror.

bin_PROGRAMS += nbdmirror
nbdmirror_SOURCES = \
	ctl/client.c ctl/client.h \
	ctl/ctl.h \
	ctl/events.c \
	ctl/job.c \
	ctl/look.c ctl/look.h \
	ctl/metrics.c \
	ctl/nbdmirror.c \
	ctl/raw.c \
	ctl/screen.c ctl/screen.h \
	ctl/size.c ctl/size.h \
	ctl/status.c \
	ctl/subcommands.h \
	ctl/switch.c \
	ctl/terminal.c ctl/terminal.h \
	ctl/wait.c \
	ctl/watch.c
nbdmirror_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
nbdmirror_LDADD = libqmp.la libsync-posix.la $(JANSSON_LIBS) -lm -lpthread
