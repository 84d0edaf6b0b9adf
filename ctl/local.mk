# SPDX-License-Identifier: BSD-3-Clause
# The command nbdmirror.

bin_PROGRAMS += nbdmirror
nbdmirror_SOURCES = \
	ctl/bitmap.c \
	ctl/client.c ctl/client.h \
	ctl/ctl.h \
	ctl/disk.c ctl/disk.h \
	ctl/events.c \
	ctl/guard.c ctl/guard.h \
	ctl/job.c \
	ctl/known.c ctl/known.h \
	ctl/listen.c ctl/listen.h \
	ctl/look.c ctl/look.h \
	ctl/metrics.c \
	ctl/nbdmirror.c \
	ctl/notify.c ctl/notify.h \
	ctl/progress.c ctl/progress.h \
	ctl/raw.c \
	ctl/run-mirror.c \
	ctl/run-start.c \
	ctl/run.c ctl/run.h \
	ctl/rundir.c ctl/rundir.h \
	ctl/screen.c ctl/screen.h \
	ctl/servers.c ctl/servers.h \
	ctl/size.c ctl/size.h \
	ctl/status.c \
	ctl/subcommands.h \
	ctl/supervise.c \
	ctl/switch.c \
	ctl/terminal.c ctl/terminal.h \
	ctl/verify.c \
	ctl/wait.c \
	ctl/watch.c
nbdmirror_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
nbdmirror_LDADD = libintent.la libqmp.la libsync-posix.la $(JANSSON_LIBS) -lm -lpthread
