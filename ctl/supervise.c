/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror run: signals, processes and the course of it all.
 *
 * One thread and one loop around poll: signals come through a signalfd, what
 * the mirror does as events of the control socket, and the rest by time.
 *
 *   STARTING   the proxy has been started.  It answers on the control socket
 *              when all that can be wrong with its start has been judged; then
 *              clients may know where it is.  One that ends before has failed.
 *   SERVING    until somebody wants an end.
 *   ENDING     the proxy is told to quit, then the target's server is ended.
 *              When the last process is gone, so are we.
 *
 * A proxy that crashes is started again only with an intent file, which knows
 * what was dirty, and whether clients had been moved to the target: without
 * one, or if it is gone meanwhile, it would serve the source again, which is
 * out of date then.  A server of a local target keeps nothing in memory and is
 * always started again.
 *
 * A signal that ends us is first given to the user's command, if there is one,
 * and we end after it; the second one ends all at once.  timeout(1) and others
 * signal first us and then our process group: what comes that soon is the same
 * wish, not a second one, and must not cost the flush at the end.
 */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "errtext.h"
#include "known.h"
#include "notify.h"
#include "run.h"

#define CONNECT_EVERY_MS 20     /* while the proxy starts */
#define GREETING_MS 500         /* and for one try of it */
#define QUIT_MS 2000            /* for the answer to quit */
#define PATIENCE_MS 5000        /* if nothing is to be done */
#define PROXY_END_MS 15000      /* from SIGTERM to SIGKILL */
#define TARGET_END_MS 5000      /* the same of the target's server */
#define SAME_SIGNAL_MS 1000     /* one that comes that soon is not another */

/* Before starting a server again that has lived for less than LONG_LIFE_MS. */
#define LONG_LIFE_MS 1000
#define DELAY_MIN_MS 500
#define DELAY_MAX_MS 2000       /* clients wait, but not for ever */
#define FAILURES_MAX 10         /* in a row */

/*-- the end ------------------------------------------------------------*/

static void
terminate (struct process *p, int patience_ms)
{
  if (p->pid == 0 || p->kill_ms != 0)
    return;
  kill (p->pid, SIGTERM);
  p->kill_ms = client_now_ms () + patience_ms;
}

static void
end_target_server (struct run *run)
{
  run->target_server.again_ms = 0;
  terminate (&run->target_server, TARGET_END_MS);
}

/* Another server may listen there, until our proxy finds that out and ends. */
static bool
connect_proxy (struct run *run)
{
  char error[CLIENT_ERROR_MAX];

  if (client_open (run->control, GREETING_MS, &run->client, error) < 0)
    run->client = NULL;
  else if (client_server (run->client) != run->proxy.pid) {
    client_close (run->client);
    run->client = NULL;
  }
  return run->client != NULL;
}

/* The proxy ends by itself after quit, with its clients or without.  By SIGTERM
 * it waits for those that are idle, so it gets that only if it cannot be told,
 * and then not for ever.
 */
static void
end_proxy (struct run *run)
{
  json_t *result = NULL;

  if ((run->client || connect_proxy (run)) &&
      client_command (run->client, "quit", NULL, QUIT_MS, &result) == 0)
    json_decref (result);
  else
    terminate (&run->proxy, PROXY_END_MS);
  client_close (run->client);
  run->client = NULL;
}

/* Out of patience?  One that a disk keeps from dying gets it again. */
static void
kill_late (struct process *p)
{
  if (p->pid == 0 || p->kill_ms == 0 || client_now_ms () < p->kill_ms)
    return;
  kill (p->pid, SIGKILL);
  p->kill_ms = client_now_ms () + TARGET_END_MS;
}

static void
begin_end (struct run *run)
{
  if (run->phase == ENDING)
    return;
  run->phase = ENDING;
  if (run->announced)
    notify_send ("STOPPING=1");
  progress_clear (&run->progress);
  listen_close (&run->clients);
  run->proxy.again_ms = 0;
  if (run->proxy.pid != 0)
    end_proxy (run);
  else
    end_target_server (run);
}

static void
end_at_once (struct run *run)
{
  progress_clear (&run->progress);
  complain ("run: killed by the second signal");
  run->status = STATUS_FAILED;
  if (run->command_pid != 0)
    kill (run->command_pid, SIGKILL);
  if (run->proxy.pid != 0)
    kill (run->proxy.pid, SIGKILL);
  if (run->target_server.pid != 0)
    kill (run->target_server.pid, SIGKILL);
  begin_end (run);
}

static void
fail (struct run *run, int status)
{
  run->status = status;
  if (run->command_pid != 0)
    kill (run->command_pid, SIGTERM);
  begin_end (run);
}

/*-- the proxy answers --------------------------------------------------*/

static void
announce (struct run *run)
{
  run->announced = true;
  progress_say (&run->progress, "uri       %s\ncontrol   %s", run->clients.uri,
                run->control);
  if (notify_send ("READY=1") < 0)
    complain ("run: NOTIFY_SOCKET: nobody can be told there");
  run->status = STATUS_OK;
  if (run->command == NULL)
    return;
  run->command_pid = spawn_command (run->command, run->clients.uri,
                                    run->control, &run->sigmask);
  if (run->command_pid < 0) {
    run->command_pid = 0;
    fail (run, STATUS_FAILED);
  }
}

static void
look_for_proxy (struct run *run)
{
  if (!connect_proxy (run))
    return;
  run->look_ms = 0;
  if (run->phase != STARTING)   /* only the connection had been lost */
    return;
  if (run->target_uri == NULL && run_start_job (run) < 0) {
    fail (run, STATUS_FAILED);
    return;
  }
  run->phase = SERVING;
  run->proxy.failures = 0;
  if (run->announced)
    progress_say (&run->progress, "again     the proxy is running");
  else
    announce (run);
}

/*-- processes end ------------------------------------------------------*/

/* When is it to be started again?  The sooner it has ended, the later. */
static void
schedule (struct process *p)
{
  const int64_t now = client_now_ms ();

  if (now - p->started_ms >= LONG_LIFE_MS)
    p->delay_ms = 0;
  else if (p->delay_ms == 0)
    p->delay_ms = DELAY_MIN_MS;
  else if (p->delay_ms < DELAY_MAX_MS / 2)
    p->delay_ms *= 2;
  else
    p->delay_ms = DELAY_MAX_MS;
  p->again_ms = now + p->delay_ms;
}

/* Without a file that knows the mirror the next proxy would serve the source,
 * whatever clients had, and copy it over the target.  It may be gone: the
 * filter removes it when it can no longer write to it.  Neither we nor a
 * service manager must start anything then, so it is not the status of a crash.
 */
static bool
file_knows (struct run *run, const char *how)
{
  struct known known;

  known_look (&known, run->bitmap);
  if (known.state > 0)
    return true;
  if (known.state < 0)
    complain ("run: the proxy %s; it is not started again: the intent file %s",
              how, known.error);
  else
    complain ("run: the proxy %s; it is not started again, since the intent"
              " file %s is gone, or does not know the mirror; if clients had"
              " been moved to the target, only %s has their data", how,
              run->bitmap, run->target.name);
  fail (run, STATUS_FAILED);
  return false;
}

static void
restart_proxy (struct run *run)
{
  run->proxy.again_ms = 0;
  if (file_knows (run, "has ended") && run_spawn_proxy (run) < 0)
    schedule (&run->proxy);
}

static void
proxy_crashed (struct run *run, const char *how)
{
  if (run->bitmap) {
    if (!file_knows (run, how))
      return;
    complain ("run: the proxy %s; it is started again", how);
    run->phase = STARTING;
    schedule (&run->proxy);
    return;
  }
  if (run->progress.pivoted)
    complain ("run: the proxy %s; clients had been moved to the target, so only"
              " %s has their data", how, run->target.name);
  else
    complain ("run: the proxy %s; there is no intent file (--bitmap), so"
              " everything must be copied again", how);
  fail (run, STATUS_NO_PROXY);
}

/* One that is started again after a crash has ended before it answered.  What
 * it needs may come back, as a source that is a server.  In the end a service
 * manager may try; with the status of a first start that has failed it would
 * not.
 */
static void
proxy_failed_again (struct run *run, const char *how)
{
  if (++run->proxy.failures < FAILURES_MAX) {
    complain ("run: the proxy did not start again: nbdkit %s; it is tried"
              " again", how);
    schedule (&run->proxy);
    return;
  }
  complain ("run: the proxy did not start again: nbdkit %s; that was the last"
            " of %d tries", how, FAILURES_MAX);
  fail (run, STATUS_NO_PROXY);
}

static void
proxy_ended (struct run *run, int status)
{
  const bool well = WIFEXITED (status) && WEXITSTATUS (status) == 0;
  /* SIGTERM came before nbdkit cared for it. */
  const bool asked = run->proxy.kill_ms != 0 && WIFSIGNALED (status) &&
    WTERMSIG (status) == SIGTERM;
  char how[ENDING_MAX];

  progress_clear (&run->progress);
  ending_text (status, how);
  run->proxy.pid = 0;
  run->proxy.kill_ms = 0;
  if (!WIFEXITED (status) || run->phase != STARTING)
    run->control_left = !WIFEXITED (status);
  client_close (run->client);
  run->client = NULL;
  run->completing = run->progress.resumed = false;
  switch (run->phase) {
  case STARTING:
    if (!run->announced) {
      complain ("run: the proxy did not start: nbdkit %s", how);
      fail (run, STATUS_FAILED);
    }
    else
      proxy_failed_again (run, how);
    break;
  case SERVING:
    if (!well)
      proxy_crashed (run, how);
    else if (run->command_pid == 0)     /* somebody told it to quit */
      begin_end (run);
    break;
  case ENDING:
    if (!well && !asked && run->announced && run->signals < 2) {
      complain ("run: the proxy %s at its end", how);
      run->status = STATUS_NO_PROXY;
    }
    end_target_server (run);
    break;
  }
}

static void
target_server_ended (struct run *run, int status)
{
  char how[ENDING_MAX];

  run->target_server.pid = 0;
  run->target_server.kill_ms = 0;
  if (run->phase == ENDING)
    return;
  progress_clear (&run->progress);
  ending_text (status, how);
  if (!run->announced) {
    complain ("run: the server of the target did not start: nbdkit %s", how);
    fail (run, STATUS_FAILED);
    return;
  }
  complain ("run: the server of the target %s; it is started again", how);
  schedule (&run->target_server);
}

static void
command_ended (struct run *run, int status)
{
  run->command_pid = 0;
  if (run->phase != ENDING || run->status == STATUS_OK)
    run->status = WIFSIGNALED (status) ? 128 + WTERMSIG (status)
      : WEXITSTATUS (status);
  begin_end (run);
}

static void
reap (struct run *run)
{
  pid_t pid;
  int status;

  while ((pid = waitpid (-1, &status, WNOHANG)) > 0) {
    if (pid == run->proxy.pid)
      proxy_ended (run, status);
    else if (pid == run->target_server.pid)
      target_server_ended (run, status);
    else if (pid == run->command_pid)
      command_ended (run, status);
  }
}

/*-- signals ------------------------------------------------------------*/

static int
block_signals (struct run *run)
{
  struct sigaction hup;
  sigset_t set;

  signal (SIGPIPE, SIG_IGN);    /* whoever reads our output may go away */
  sigemptyset (&set);
  sigaddset (&set, SIGCHLD);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGINT);
  sigaction (SIGHUP, NULL, &hup);
  if (hup.sa_handler != SIG_IGN)        /* as under nohup */
    sigaddset (&set, SIGHUP);
  if (sigprocmask (SIG_BLOCK, &set, &run->sigmask) < 0)
    return -1;
  run->sigfd = signalfd (-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  return run->sigfd < 0 ? -1 : 0;
}

/* One of those that end us. */
static void
take_signal (struct run *run, const struct signalfd_siginfo *info)
{
  /* What is typed at a terminal the command has got, too. */
  if (run->command_pid != 0 && info->ssi_signo == SIGINT &&
      info->ssi_code == SI_KERNEL)
    return;
  if (run->signals > 0) {
    if (client_now_ms () < run->second_ms)
      return;
    run->signals++;
    end_at_once (run);
    return;
  }
  run->signals++;
  if (!run->announced)
    complain ("run: stopped before the mirror was running");
  if (run->command_pid != 0)
    kill (run->command_pid, (int) info->ssi_signo);
  else
    begin_end (run);
  /* From now: what has come while the proxy was told was not seen, but may be
   * as old as the first.
   */
  run->second_ms = client_now_ms () + SAME_SIGNAL_MS;
}

static void
take_signals (struct run *run)
{
  struct signalfd_siginfo info;
  bool children = false;

  while (read (run->sigfd, &info, sizeof info) == sizeof info)
    if (info.ssi_signo == SIGCHLD)
      children = true;
    else
      take_signal (run, &info);
  if (children)
    reap (run);
}

/*-- the loop -----------------------------------------------------------*/

static bool
is_due (int64_t when_ms)
{
  return when_ms != 0 && client_now_ms () >= when_ms;
}

static void
act_by_time (struct run *run)
{
  if (is_due (run->proxy.again_ms))
    restart_proxy (run);
  if (is_due (run->target_server.again_ms)) {
    run->target_server.again_ms = 0;
    if (run_spawn_target (run) < 0)
      schedule (&run->target_server);
  }
  kill_late (&run->proxy);
  kill_late (&run->target_server);
  if (run->phase == ENDING || run->proxy.pid == 0)
    return;
  if (run->client == NULL)
    look_for_proxy (run);
  else if (client_now_ms () >= run->look_ms)
    run_look (run);
}

/* Until something is to be done by time. */
static int
patience_ms (const struct run *run)
{
  int64_t left = PATIENCE_MS;
  const int64_t now = client_now_ms ();
  const int64_t when[] = {
    run->proxy.again_ms, run->target_server.again_ms,
    run->proxy.kill_ms, run->target_server.kill_ms,
  };
  size_t i;

  if (run->phase != ENDING && run->proxy.pid != 0)
    left = run->client ? run->look_ms - now : CONNECT_EVERY_MS;
  for (i = 0; i < sizeof when / sizeof when[0]; i++)
    if (when[i] != 0 && when[i] - now < left)
      left = when[i] - now;
  return left < 0 ? 0 : (int) left;
}

static bool
is_over (const struct run *run)
{
  return run->phase == ENDING && run->proxy.pid == 0 &&
    run->target_server.pid == 0 && run->command_pid == 0;
}

static void
loop (struct run *run)
{
  struct pollfd fds[2] = { { .fd = run->sigfd, .events = POLLIN } };

  while (!is_over (run)) {
    act_by_time (run);
    if (is_over (run))
      return;
    if (run->client && client_has_line (run->client))
      run_take_events (run);
    fds[1] = (struct pollfd) {
      .fd = run->client ? client_fd (run->client) : -1, .events = POLLIN,
    };
    if (poll (fds, 2, patience_ms (run)) <= 0)
      continue;
    if (fds[1].revents != 0)
      run_take_events (run);
    if (fds[0].revents != 0)
      take_signals (run);
  }
}

int
run_supervise (struct run *run)
{
  int r = 0;

  if (block_signals (run) < 0) {
    complain ("run: signals: %s", error_text (errno));
    return STATUS_FAILED;
  }
  r = guard_start (&run->guard);
  if (r < 0) {
    complain ("run: fork: %s", error_text (-r));
    return STATUS_FAILED;
  }
  if (run_target_first (run))
    r = run_start_target (run, run->source.size);
  if (r == 0)
    r = run_spawn_proxy (run);
  if (r < 0)
    fail (run, STATUS_FAILED);
  loop (run);
  guard_end (&run->guard);
  close (run->sigfd);
  return run->status;
}
