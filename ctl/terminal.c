/* SPDX-License-Identifier: BSD-3-Clause */
/* See terminal.h.
 *
 * Whatever ends the process, the terminal must be as it was.  So the handlers
 * of signals give it back themselves, with nothing but write and tcsetattr,
 * which are allowed there, and then let the signal do what it does by default.
 * Nothing has to be waited for, not even a server that does not answer.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "terminal.h"

/* Alternate screen, no cursor, no wrapping at the right edge; and back. */
#define ENTER "\033[?1049h\033[?25l\033[?7l"
#define LEAVE "\033[?7h\033[?25h\033[?1049l"

static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };

static int wake[2] = { -1, -1 };
static volatile sig_atomic_t entered;
static bool have_keys;
static struct termios before;

static bool
is_dumb (void)
{
  const char *term = getenv ("TERM");

  return term == NULL || term[0] == '\0' || strcmp (term, "dumb") == 0;
}

static bool
get_size (struct winsize *size)
{
  return ioctl (STDOUT_FILENO, TIOCGWINSZ, size) == 0 && size->ws_col > 0;
}

void
terminal_style (struct screen_style *style)
{
  const char *no_color = getenv ("NO_COLOR");
  const bool tty = isatty (STDOUT_FILENO);
  struct winsize size;

  setlocale (LC_CTYPE, "");
  style->utf8 = strcmp (nl_langinfo (CODESET), "UTF-8") == 0;
  style->color = tty && !is_dumb () &&
    (no_color == NULL || no_color[0] == '\0');
  style->columns = !tty ? 0 : get_size (&size) ? size.ws_col : 80;
}

bool
terminal_can_draw (void)
{
  return isatty (STDOUT_FILENO) && !is_dumb ();
}

unsigned
terminal_rows (void)
{
  struct winsize size;

  return get_size (&size) && size.ws_row > 0 ? size.ws_row : 24;
}

/*-- writing ------------------------------------------------------------*/

/* Also called by handlers of signals. */
static void
put (const char *text, size_t n)
{
  ssize_t r;

  while (n > 0) {
    r = write (STDOUT_FILENO, text, n);
    if (r < 0 && errno != EINTR)
      return;
    if (r > 0) {
      text += r;
      n -= (size_t) r;
    }
  }
}

void
terminal_draw (const char *text)
{
  unsigned rows = terminal_rows ();
  char *all = NULL;
  size_t size, n;
  FILE *f = open_memstream (&all, &size);

  if (f == NULL)
    return;
  /* Over the old text, so that nothing flickers; then what is left of it. */
  fputs ("\033[H", f);
  for (; *text && rows > 0; text += n + 1, rows--) {
    n = strcspn (text, "\n");
    fwrite (text, 1, n, f);
    fputs (rows > 1 && text[n + 1] ? "\033[K\r\n" : "\033[K", f);
    if (text[n] == '\0')
      break;
  }
  fputs ("\033[J", f);
  if (fclose (f) == 0)
    put (all, size);
  free (all);
}

/*-- taking over and giving back ----------------------------------------*/

static void
leave (void)
{
  if (!entered)
    return;
  entered = 0;
  put (LEAVE, strlen (LEAVE));
  if (have_keys)
    tcsetattr (STDIN_FILENO, TCSANOW, &before);
}

static void
enter (void)
{
  struct termios keys = before;

  if (have_keys) {
    keys.c_lflag &= ~(tcflag_t) (ICANON | ECHO);
    keys.c_cc[VMIN] = 0;
    keys.c_cc[VTIME] = 0;
    tcsetattr (STDIN_FILENO, TCSANOW, &keys);
  }
  put (ENTER, strlen (ENTER));
  entered = 1;
}

static void
on_end (int sig)
{
  leave ();
  signal (sig, SIG_DFL);
  raise (sig);                  /* delivered when this handler returns */
}

static void
wake_up (void)
{
  if (write (wake[1], "", 1) < 0)
    return;                     /* it is full: somebody will look anyway */
}

static void
on_stop (int sig)
{
  const int saved = errno;

  (void) sig;
  leave ();
  raise (SIGSTOP);
  enter ();
  wake_up ();
  errno = saved;
}

static void
on_change (int sig)
{
  const int saved = errno;

  (void) sig;
  wake_up ();
  errno = saved;
}

static void
catch (int sig, void (*handler) (int))
{
  struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART };

  sigfillset (&sa.sa_mask);
  sigaction (sig, &sa, NULL);
}

void
terminal_enter (void)
{
  size_t i;

  if (pipe2 (wake, O_CLOEXEC | O_NONBLOCK) < 0)
    wake[0] = wake[1] = -1;
  have_keys = isatty (STDIN_FILENO) && tcgetattr (STDIN_FILENO, &before) == 0;
  for (i = 0; i < sizeof ends / sizeof ends[0]; i++)
    catch (ends[i], on_end);
  catch (SIGTSTP, on_stop);
  catch (SIGWINCH, on_change);
  enter ();
}

void
terminal_leave (void)
{
  leave ();
}

void
terminal_fds (struct pollfd *fds)
{
  fds[0] = (struct pollfd) { .fd = wake[0], .events = POLLIN };
  fds[1] = (struct pollfd) { .fd = have_keys ? STDIN_FILENO : -1,
                             .events = POLLIN };
}

bool
terminal_quit_pressed (void)
{
  struct pollfd keys = { .fd = STDIN_FILENO, .events = POLLIN };
  char bytes[64];
  bool quit = false;
  ssize_t n;

  while (read (wake[0], bytes, sizeof bytes) > 0)
    ;
  while (have_keys && poll (&keys, 1, 0) > 0) {
    n = read (STDIN_FILENO, bytes, sizeof bytes);
    if (n <= 0)
      return true;              /* the terminal has gone */
    quit |= memchr (bytes, 'q', (size_t) n) != NULL;
  }
  return quit;
}
