/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of the control socket and their arguments: one table.
 *
 * It drives the parser and the checks of qmp.c, query-commands, the dispatch
 * in the filter, and scripts/check-docs, which compares it with the manual
 * page.  (The script reads this file line by line: one entry a line.)
 *
 *   VERB (id, name, doc)
 *     a command; what follows, up to the next VERB, are its arguments, in
 *     the order in which they are checked (QEMU's).
 *
 *   ARG (name, type, need, values, doc)
 *     need is REQUIRED, OPTIONAL, NOT_YET (known, but not available in this
 *     version) or NEVER (QEMU's, and means nothing here).  values, if
 *     not "", are the words that are accepted, with | between them; a word
 *     after ! is known but not available in this version.
 */

#ifndef MIRROR_VERBS_H
#define MIRROR_VERBS_H

#define QMP_POLICIES "report|ignore|enospc|stop"
#define QMP_SYNCS "full|none|incremental|top|bitmap"
#define QMP_COPY_MODES "background|write-blocking|auto"

#define QMP_VERBS(VERB, ARG)                                                  \
  VERB (qmp_capabilities, "qmp_capabilities", "end the negotiation")          \
  ARG ("enable", STRINGS, OPTIONAL, "", "capabilities; none is offered")      \
  VERB (query_version, "query-version", "version of the protocol and of us")  \
  VERB (query_commands, "query-commands", "the commands that work")           \
  VERB (quit, "quit", "end the server")                                       \
  VERB (blockdev_mirror, "blockdev-mirror", "start a mirror job")             \
  ARG ("job-id", STRING, OPTIONAL, "", "name of the job")                     \
  ARG ("device", STRING, OPTIONAL, "", "only source")                         \
  ARG ("target", STRING, REQUIRED, "", "NBD URI")                             \
  ARG ("replaces", STRING, NEVER, "", "")                                     \
  ARG ("sync", STRING, REQUIRED, QMP_SYNCS, "what to copy")                   \
  ARG ("speed", INTEGER, OPTIONAL, "", "bytes per second")                    \
  ARG ("granularity", UINT32, OPTIONAL, "", "bytes")                          \
  ARG ("buf-size", INTEGER, OPTIONAL, "", "bytes in flight")                  \
  ARG ("on-source-error", STRING, OPTIONAL, QMP_POLICIES, "policy")           \
  ARG ("on-target-error", STRING, OPTIONAL, QMP_POLICIES, "policy")           \
  ARG ("filter-node-name", STRING, NEVER, "", "")                             \
  ARG ("copy-mode", STRING, OPTIONAL, QMP_COPY_MODES, "tee or not")           \
  ARG ("auto-finalize", BOOLEAN, OPTIONAL, "", "only true")                   \
  ARG ("auto-dismiss", BOOLEAN, OPTIONAL, "", "gone when it has ended")       \
  ARG ("target-is-zero", BOOLEAN, OPTIONAL, "", "it reads as zero already")   \
  ARG ("connections", INTEGER, OPTIONAL, "", "connections to the target")     \
  ARG ("bitmap-file", STRING, OPTIONAL, "", "intent file")                    \
  ARG ("target-timeout", INTEGER, OPTIONAL, "", "longest wait, seconds")      \
  ARG ("max-pause", INTEGER, OPTIONAL, "", "longest hold, milliseconds")      \
  ARG ("tls", STRING, NOT_YET, "", "")                                        \
  ARG ("tls-certificates", STRING, NOT_YET, "", "")                           \
  ARG ("tls-psk", STRING, NOT_YET, "", "")                                    \
  ARG ("tls-username", STRING, NOT_YET, "", "")                               \
  ARG ("tls-verify", BOOLEAN, NOT_YET, "", "")                                \
  VERB (block_job_cancel, "block-job-cancel", "cancel the job")               \
  ARG ("device", STRING, REQUIRED, "", "name of the job")                     \
  ARG ("force", BOOLEAN, OPTIONAL, "", "do not detach when it is ready")      \
  VERB (block_job_pause, "block-job-pause", "stop copying")                   \
  ARG ("device", STRING, REQUIRED, "", "name of the job")                     \
  VERB (block_job_resume, "block-job-resume", "go on with copying")           \
  ARG ("device", STRING, REQUIRED, "", "name of the job")                     \
  VERB (block_job_complete, "block-job-complete", "pivot to the target")      \
  ARG ("device", STRING, REQUIRED, "", "name of the job")                     \
  VERB (block_job_finalize, "block-job-finalize", "QEMU's; never needed")     \
  ARG ("id", STRING, REQUIRED, "", "name of the job")                         \
  VERB (block_job_dismiss, "block-job-dismiss", "forget a concluded job")     \
  ARG ("id", STRING, REQUIRED, "", "name of the job")                         \
  VERB (block_job_set_speed, "block-job-set-speed", "limit the copying")      \
  ARG ("device", STRING, REQUIRED, "", "name of the job")                     \
  ARG ("speed", INTEGER, REQUIRED, "", "bytes per second")                    \
  VERB (block_job_change, "block-job-change", "change the copy mode")         \
  ARG ("id", STRING, REQUIRED, "", "name of the job")                         \
  ARG ("type", STRING, REQUIRED, "mirror", "of the job")                      \
  ARG ("copy-mode", STRING, REQUIRED, QMP_COPY_MODES, "tee or not")           \
  VERB (job_cancel, "job-cancel", "cancel the job by force")                  \
  ARG ("id", STRING, REQUIRED, "", "name of the job")                         \
  VERB (job_pause, "job-pause", "stop copying")                               \
  ARG ("id", STRING, REQUIRED, "", "name of the job")                         \
  VERB (job_resume, "job-resume", "go on with copying")                       \
  ARG ("id", STRING, REQUIRED, "", "name of the job")                         \
  VERB (job_complete, "job-complete", "pivot to the target")                  \
  ARG ("id", STRING, REQUIRED, "", "name of the job")                         \
  VERB (job_finalize, "job-finalize", "QEMU's; never needed")                 \
  ARG ("id", STRING, REQUIRED, "", "name of the job")                         \
  VERB (job_dismiss, "job-dismiss", "forget a concluded job")                 \
  ARG ("id", STRING, REQUIRED, "", "name of the job")                         \
  VERB (mirror_set, "mirror-set", "change what can be changed")               \
  ARG ("speed", INTEGER, OPTIONAL, "", "bytes per second")                    \
  ARG ("buf-size", INTEGER, OPTIONAL, "", "bytes in flight")                  \
  ARG ("copy-mode", STRING, OPTIONAL, QMP_COPY_MODES, "tee or not")           \
  ARG ("on-source-error", STRING, OPTIONAL, QMP_POLICIES, "policy")           \
  ARG ("on-target-error", STRING, OPTIONAL, QMP_POLICIES, "policy")           \
  ARG ("target-timeout", INTEGER, OPTIONAL, "", "longest wait, seconds")      \
  ARG ("max-pause", INTEGER, OPTIONAL, "", "longest hold, milliseconds")      \
  VERB (mirror_hold, "mirror-hold", "hold clients, both sides equal")         \
  ARG ("timeout", INTEGER, OPTIONAL, "", "seconds")                           \
  VERB (mirror_release, "mirror-release", "end the hold")                     \
  VERB (mirror_fence, "mirror-fence", "refuse the writes of clients")         \
  ARG ("enable", BOOLEAN, OPTIONAL, "", "false: take it back")                \
  ARG ("force", BOOLEAN, OPTIONAL, "", "also when nothing is held")           \
  VERB (mirror_verify, "mirror-verify", "compare both sides")                 \
  ARG ("action", STRING, REQUIRED, "start|stop", "begin or end early")        \
  ARG ("repair", BOOLEAN, OPTIONAL, "", "copy again what differs")            \
  ARG ("speed", INTEGER, OPTIONAL, "", "bytes per second")                    \
  VERB (query_block_jobs, "query-block-jobs", "the job, as a block job")      \
  VERB (query_jobs, "query-jobs", "the job")                                  \
  VERB (query_mirror, "query-mirror", "all that is known about the mirror")

#endif /* MIRROR_VERBS_H */
