# SPDX-License-Identifier: BSD-3-Clause
# Manual pages.  make check compares them with the tables in the code.

man_pods = \
	ctl/nbdmirror.pod \
	docs/nbdkit-mirror-intent.pod \
	docs/nbdkit-mirror-qmp.pod \
	filters/mirror/nbdkit-mirror-filter.pod \
	nbdsource/nbdkit-nbdsource-plugin.pod \
	plugin/nbdkit-uring-plugin.pod

man1_MANS += nbdmirror.1 nbdkit-mirror-filter.1 nbdkit-uring-plugin.1 \
	nbdkit-nbdsource-plugin.1
man5_MANS += nbdkit-mirror-intent.5
man7_MANS += nbdkit-mirror-qmp.7
CLEANFILES += \
	nbdmirror.1 nbdkit-mirror-filter.1 nbdkit-mirror-intent.5 \
	nbdkit-mirror-qmp.7 nbdkit-nbdsource-plugin.1 nbdkit-uring-plugin.1
EXTRA_DIST += $(man_pods) docs/correctness.md docs/recipes.md \
	docs/performance.md \
	docs/scoreboard.md \
	docs/watch.svg

pod2man = $(POD2MAN) --utf8 -c nbdkit-mirror -r '$(PACKAGE) $(VERSION)'

nbdmirror.1: ctl/nbdmirror.pod
	$(AM_V_GEN)$(pod2man) -s 1 -n nbdmirror \
	  $(srcdir)/ctl/nbdmirror.pod $@
nbdkit-mirror-filter.1: filters/mirror/nbdkit-mirror-filter.pod
	$(AM_V_GEN)$(pod2man) -s 1 -n nbdkit-mirror-filter \
	  $(srcdir)/filters/mirror/nbdkit-mirror-filter.pod $@
nbdkit-mirror-intent.5: docs/nbdkit-mirror-intent.pod
	$(AM_V_GEN)$(pod2man) -s 5 -n nbdkit-mirror-intent \
	  $(srcdir)/docs/nbdkit-mirror-intent.pod $@
nbdkit-uring-plugin.1: plugin/nbdkit-uring-plugin.pod
	$(AM_V_GEN)$(pod2man) -s 1 -n nbdkit-uring-plugin \
	  $(srcdir)/plugin/nbdkit-uring-plugin.pod $@
nbdkit-nbdsource-plugin.1: nbdsource/nbdkit-nbdsource-plugin.pod
	$(AM_V_GEN)$(pod2man) -s 1 -n nbdkit-nbdsource-plugin \
	  $(srcdir)/nbdsource/nbdkit-nbdsource-plugin.pod $@
nbdkit-mirror-qmp.7: docs/nbdkit-mirror-qmp.pod
	$(AM_V_GEN)$(pod2man) -s 7 -n nbdkit-mirror-qmp \
	  $(srcdir)/docs/nbdkit-mirror-qmp.pod $@

TESTS += scripts/check-docs
EXTRA_DIST += scripts/check-docs
