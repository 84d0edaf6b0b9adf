# SPDX-License-Identifier: BSD-3-Clause
# The whole suite in a chroot of Debian 13.  Needs root; downloads it once.
# DEBIAN13_DIR=DIRECTORY keeps the chroot elsewhere.

check-debian13: dist
	$(top_srcdir)/tests/debian13/check-debian13.sh $(distdir).tar.xz \
		"$${DEBIAN13_DIR:-debian13}"
.PHONY: check-debian13

EXTRA_DIST += tests/debian13/check-debian13.sh
