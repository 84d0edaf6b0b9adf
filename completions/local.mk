# SPDX-License-Identifier: BSD-3-Clause
# Completion for bash.

bashcompletiondir = $(datadir)/bash-completion/completions
bashcompletion_DATA = completions/nbdmirror
CLEANFILES += completions/nbdmirror
EXTRA_DIST += completions/make-completion completions/nbdmirror.in

completion_input = \
	$(srcdir)/ctl/subcommands.h $(srcdir)/ctl/job.c $(srcdir)/ctl/run.c \
	$(srcdir)/filters/mirror/nbdkit-mirror-filter.pod \
	$(srcdir)/completions/nbdmirror.in

completions/nbdmirror: $(srcdir)/completions/make-completion $(completion_input)
	$(AM_V_GEN)$(MKDIR_P) completions && \
	  $(AWK) -f $(srcdir)/completions/make-completion $(completion_input) \
	    > $@-t && mv $@-t $@
