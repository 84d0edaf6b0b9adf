/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror run: what the proxy tells of the mirror, and --complete. */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "known.h"
#include "look.h"
#include "run.h"

#define AGAIN_MS 20             /* after the connection was lost */
#define DRAW_EVERY_MS 500       /* on a terminal */
#define LOOK_EVERY_MS 5000      /* elsewhere, should an event have been lost */
#define COMPLETE_EVERY_MS 1000  /* while the proxy refuses to */
#define STATUS_MS 2000          /* for the answer to a question */

/* It is tried again to connect. */
static void
disconnect (struct run *run)
{
  client_close (run->client);
  run->client = NULL;
  run->completing = false;
  run->look_ms = client_now_ms () + AGAIN_MS;
}

/* --complete: the job is ready.  It is tried again until the proxy accepts it;
 * what comes of it is up to the proxy.  An answer that has not come in time
 * must not be taken for that to the next question.
 */
static void
complete (struct run *run, const char *job)
{
  const int64_t now = client_now_ms ();
  json_t *result = NULL;
  int r;

  if (now < run->complete_ms)
    return;
  r = client_command (run->client, "block-job-complete",
                      json_pack ("{s:s}", "device", job), ANSWER_MS, &result);
  json_decref (result);
  run->completing = r == 0;
  if (r == 0)
    return;
  if (run->complete_ms == 0)
    progress_say (&run->progress, "waiting   not completed yet: %s",
                  client_error (run->client));
  run->complete_ms = now + COMPLETE_EVERY_MS;
  if (r != -EREMOTEIO)
    disconnect (run);
}

/* Once, when the intent file could not be written.  It may have been removed:
 * then nothing will say that clients have been moved.
 */
static void
tell_lost (struct run *run, json_t *mirror)
{
  const bool lost =
    strcmp (look_word (json_object_get (mirror, "bitmap"), "state"),
            "lost") == 0;
  struct known known;

  if (lost && !run->lost) {
    known_look (&known, run->bitmap);
    progress_say (&run->progress, "lost      the intent file could not be"
                  " written: the next start copies everything%s",
                  known.state == INTENT_IDLE
                  ? ", and gives clients SOURCE, even if they are moved" : "");
  }
  run->lost = lost;
}

static void
note_event (struct run *run, json_t *event)
{
  const char *name = look_word (event, "event");
  json_t *data = json_object_get (event, "data");

  if (strcmp (name, "MIRROR_PIVOTED") == 0) {
    run->complete = run->completing = false;
    progress_pivoted (&run->progress, (uint64_t) json_integer_value
                      (json_object_get (data, "pause-us")));
  }
  else if (strcmp (name, "MIRROR_SWITCH_FAILED") == 0) {
    if (run->completing)        /* nothing is tried again by itself */
      run->complete = run->completing = false;
    progress_say (&run->progress, "failed    %s: %s",
                  look_word (data, "operation"), look_word (data, "error"));
  }
  else if (strcmp (name, "JOB_STATUS_CHANGE") == 0 &&
           (strcmp (look_word (data, "status"), "null") == 0 ||
            strcmp (look_word (data, "status"), "concluded") == 0))
    run->completing = false;
}

/* Ask how it is.  Not while a pivot is under way: what comes of it is told by
 * an event, and those before an answer are lost.
 */
void
run_look (struct run *run)
{
  json_t *mirror, *job;
  int r;

  run->look_ms = client_now_ms () +
    (run->progress.live ? DRAW_EVERY_MS : LOOK_EVERY_MS);
  if (run->completing)
    return;
  r = client_command (run->client, "query-mirror", NULL, STATUS_MS, &mirror);
  if (r < 0) {
    disconnect (run);
    return;
  }
  progress_show (&run->progress, mirror);
  tell_lost (run, mirror);
  /* Also if its event has been missed: a mirror back is not to be completed. */
  if (json_is_true (json_object_get (mirror, "pivoted")))
    run->complete = false;
  job = json_object_get (mirror, "job");
  if (run->complete && json_is_true (json_object_get (job, "ready"))) {
    complete (run, look_word (job, "id"));
    if (!run->completing)
      run->look_ms = client_now_ms () + COMPLETE_EVERY_MS / 2;
  }
  json_decref (mirror);
}

void
run_take_events (struct run *run)
{
  json_t *event;
  int r;

  while ((r = client_next_event (run->client, 0, &event)) == 0) {
    note_event (run, event);
    json_decref (event);
  }
  if (r != -ETIMEDOUT)          /* its end is seen by SIGCHLD */
    disconnect (run);
  else
    run->look_ms = 0;
}
