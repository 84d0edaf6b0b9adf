# SPDX-License-Identifier: BSD-3-Clause
# The disk of a virtual machine.  Downloads a kernel, once; takes minutes.

check-vm: all tests/lib/mirrorcmp$(EXEEXT)
	$(TESTS_ENVIRONMENT) ./run $(top_srcdir)/tests/vm/check-vm.sh vm
.PHONY: check-vm

EXTRA_DIST += tests/vm/check-vm.sh tests/vm/init tests/vm/test-vm.sh
