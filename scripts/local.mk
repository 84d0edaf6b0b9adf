# SPDX-License-Identifier: BSD-3-Clause

TESTS += scripts/check-includes
EXTRA_DIST += \
	scripts/bench scripts/check scripts/check-includes scripts/deps.sh \
	scripts/quickstart scripts/quickstart-client \
	scripts/scoreboard scripts/terminal-picture scripts/wrap/nbdkit .ci/run
