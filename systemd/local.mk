# SPDX-License-Identifier: BSD-3-Clause
# The unit for nbdmirror run.  Where there is no systemd it is only built.

unit = systemd/nbdmirror@.service

noinst_DATA += $(unit)
CLEANFILES += $(unit)
EXTRA_DIST += systemd/nbdmirror@.service.in systemd/nbdmirror-example.conf

dist_doc_DATA = systemd/nbdmirror-example.conf
if HAVE_SYSTEMD
systemdsystemunit_DATA = $(unit)
endif

$(unit): systemd/nbdmirror@.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) systemd && \
	  $(SED) 's,[@]bindir[@],$(bindir),' \
	    $(srcdir)/systemd/nbdmirror@.service.in > $@-t && mv $@-t $@
