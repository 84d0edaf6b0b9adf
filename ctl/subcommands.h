/* SPDX-License-Identifier: BSD-3-Clause */
/* The subcommands of nbdmirror and their options: one table.
 *
 * It drives the parsing, --help, and scripts/check-docs, which compares it
 * with the manual page.  (The script reads this file line by line: one entry
 * a line.)
 *
 *   SUB (id, name, operands, least, most, help)
 *     run_<id> does it; between least and most operands.  Its options follow
 *     it, up to the next SUB.
 *
 *   OPT (name, value, help)
 *     value is what --help calls its value, "" if it takes none.  One with
 *     a single dash may be given more than once.
 */

#ifndef MIRROR_SUBCOMMANDS_H
#define MIRROR_SUBCOMMANDS_H

#define SUBCOMMANDS(SUB, OPT)                                                 \
  SUB (run, "run", "SOURCE TARGET [-- COMMAND ...]", 2, 999, "mirror a disk") \
  OPT ("--listen", "ADDR", "for clients: unix:PATH or [HOST]:PORT")           \
  OPT ("--control", "SOCK", "the control socket, as -S")                      \
  OPT ("--bitmap", "FILE", "remember there what is dirty")                    \
  OPT ("--copy-mode", "M", "background, write-blocking or auto")              \
  OPT ("--speed", "N", "copy at most N bytes per second, 0 = no limit")       \
  OPT ("--complete", "", "move the clients to the target once ready")         \
  OPT ("--force", "", "overwrite a TARGET that is not all zero")              \
  OPT ("-o", "KEY=VALUE", "give mirror-KEY=VALUE to the filter")              \
  SUB (status, "status", "", 0, 0, "show the job and how it is doing")        \
  OPT ("--json", "", "print all that is known, as JSON")                      \
  SUB (watch, "watch", "", 0, 0, "show it all the time; q ends that")         \
  OPT ("--interval", "S", "look every S seconds; default: 1")                 \
  SUB (wait, "wait", "ready|synced|completed", 1, 1, "wait for that state")   \
  OPT ("--timeout", "S", "give up after S seconds")                           \
  SUB (start, "start", "TARGET", 1, 1, "start a mirror to an NBD URI")        \
  OPT ("--copy-mode", "M", "background, write-blocking or auto")              \
  OPT ("--speed", "N", "copy at most N bytes per second, 0 = no limit")       \
  OPT ("--granularity", "N", "track changes in units of N bytes")             \
  OPT ("--buf-size", "N", "copy at most N bytes at a time")                   \
  OPT ("--connections", "N", "connections to the target")                     \
  OPT ("--job-id", "ID", "name of the job")                                   \
  SUB (pause, "pause", "", 0, 0, "stop copying")                              \
  SUB (resume, "resume", "", 0, 0, "go on with copying")                      \
  SUB (set, "set", "KEY=VALUE ...", 1, 16, "change what can be changed")      \
  SUB (mode, "mode", "M", 1, 1, "change the copy mode")                       \
  SUB (speed, "speed", "N", 1, 1, "change the limit of background copying")   \
  SUB (complete, "complete", "", 0, 0, "move the clients to the target")      \
  OPT ("--async", "", "do not wait for the end")                              \
  OPT ("--verify", "", "only if a verification finds no difference")          \
  SUB (cancel, "cancel", "", 0, 0, "end the job; detach when it is ready")    \
  OPT ("--force", "", "at once, leave the target as it is")                   \
  SUB (hold, "hold", "", 0, 0, "hold the clients when both sides are equal")  \
  OPT ("--timeout", "S", "for at most S seconds")                             \
  SUB (release, "release", "", 0, 0, "end the hold")                          \
  SUB (fence, "fence", "", 0, 0, "refuse the writes of clients")              \
  OPT ("--off", "", "accept them again")                                      \
  OPT ("--force", "", "also when nothing is held")                            \
  SUB (verify, "verify", "", 0, 0, "compare source and target online")        \
  OPT ("--repair", "", "copy again what differs")                             \
  OPT ("--speed", "N", "read at most N bytes per second from each side")      \
  OPT ("--stop", "", "end the verification that is running")                  \
  SUB (events, "events", "", 0, 0, "print what happens, as JSON lines")       \
  SUB (metrics, "metrics", "", 0, 0, "print all numbers as OpenMetrics")      \
  SUB (qmp, "qmp", "JSON", 1, 1, "run one raw QMP command")                   \
  SUB (quit, "quit", "", 0, 0, "end the server")                              \
  SUB (bitmap, "bitmap", "FILE", 1, 1, "show what an intent file says")       \
  OPT ("--ranges", "", "only what is dirty: lines of offset and length")

#endif /* MIRROR_SUBCOMMANDS_H */
