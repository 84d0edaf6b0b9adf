# SPDX-License-Identifier: BSD-3-Clause
# The intent file: its format; the file itself.

noinst_LTLIBRARIES += libintent.la
libintent_la_SOURCES = \
	common/intent/format.c common/intent/format.h \
	common/intent/io.h \
	common/intent/load.c \
	common/intent/store.c common/intent/store.h
