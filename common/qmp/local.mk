# SPDX-License-Identifier: BSD-3-Clause
# QMP without a connection: for the filter's server and for nbdmirror.

noinst_LTLIBRARIES += libqmp.la
libqmp_la_SOURCES = \
	common/qmp/framer.c common/qmp/framer.h \
	common/qmp/qmp.c common/qmp/qmp.h common/qmp/verbs.h
libqmp_la_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
