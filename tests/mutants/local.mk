# SPDX-License-Identifier: BSD-3-Clause
# Bugs planted on purpose; each must be found by a test.  Takes minutes.

check-mutants: all
	$(top_srcdir)/tests/mutants/run-mutants $(top_srcdir) mutants $(MUTANTS)
.PHONY: check-mutants

EXTRA_DIST += \
	tests/mutants/run-mutants \
	tests/mutants/ack-after-flush-began-is-covered.patch \
	tests/mutants/auto-never-tees.patch \
	tests/mutants/auto-synced-before-it-tees.patch \
	tests/mutants/auto-tees-at-once.patch \
	tests/mutants/clear-rounded-outward.patch \
	tests/mutants/completion-error-ignored.patch \
	tests/mutants/copy-clears-after-read.patch \
	tests/mutants/copy-completion-error-ignored.patch \
	tests/mutants/copy-failure-not-marked.patch \
	tests/mutants/defer-flush-ignored.patch \
	tests/mutants/defer-fua-ignored.patch \
	tests/mutants/detect-looks-at-the-beginning.patch \
	tests/mutants/failed-switch-stays-shut.patch \
	tests/mutants/fence-does-not-wait.patch \
	tests/mutants/flush-failure-ignored.patch \
	tests/mutants/flush-waits-for-newcomers.patch \
	tests/mutants/gate-does-not-look-again.patch \
	tests/mutants/held-in-any-order.patch \
	tests/mutants/last-granule-skipped.patch \
	tests/mutants/late-ack-after-failed-flush.patch \
	tests/mutants/late-ack-counts.patch \
	tests/mutants/lock-not-rounded-to-block.patch \
	tests/mutants/loss-forgets-unflushed.patch \
	tests/mutants/mode-sampled-twice.patch \
	tests/mutants/no-mark-after-failed-source-write.patch \
	tests/mutants/no-mark-after-failed-tee.patch \
	tests/mutants/no-mark-after-failed-tracked-write.patch \
	tests/mutants/no-range-lock-for-tee.patch \
	tests/mutants/no-range-lock-for-trim.patch \
	tests/mutants/none-failed-start-holds.patch \
	tests/mutants/none-trusts-the-cache.patch \
	tests/mutants/none-without-deadline.patch \
	tests/mutants/none-without-drain.patch \
	tests/mutants/pause-while-ending.patch \
	tests/mutants/pivot-extents-from-another-connection.patch \
	tests/mutants/pivot-forgets-unflushed.patch \
	tests/mutants/pivot-loss-not-marked.patch \
	tests/mutants/pivot-reads-the-old-source.patch \
	tests/mutants/pivot-without-block-lock.patch \
	tests/mutants/pivot-without-drain.patch \
	tests/mutants/scan-trusts-the-cache.patch \
	tests/mutants/skip-after-failed-flush.patch \
	tests/mutants/skip-asked-before-the-lock.patch \
	tests/mutants/skip-trusts-unflushed.patch \
	tests/mutants/skip-what-failed.patch \
	tests/mutants/start-does-not-wait.patch \
	tests/mutants/switch-forgets-the-copiers.patch \
	tests/mutants/switch-ignores-target-flush.patch \
	tests/mutants/synced-by-one-look.patch \
	tests/mutants/synced-forgets-copy-in-flight.patch \
	tests/mutants/tail-not-scanned.patch \
	tests/mutants/target-is-zero-for-good.patch \
	tests/mutants/tee-among-older-requests.patch \
	tests/mutants/tee-clears-after-io.patch \
	tests/mutants/tracking-after-scan.patch \
	tests/mutants/unmap-ignored.patch \
	tests/mutants/verify-after-the-end.patch \
	tests/mutants/verify-before-scan.patch \
	tests/mutants/verify-during-switch.patch \
	tests/mutants/verify-forgets-repair.patch \
	tests/mutants/verify-ignores-dirty.patch \
	tests/mutants/verify-ignores-marks.patch \
	tests/mutants/verify-skips-the-end.patch \
	tests/mutants/verify-trusts-the-source.patch \
	tests/mutants/verify-trusts-track.patch \
	tests/mutants/verify-trusts-unflushed.patch \
	tests/mutants/verify-without-lock.patch \
	tests/mutants/waiters-overtaken.patch
