/* SPDX-License-Identifier: BSD-3-Clause */
/* Tell the service manager that started us how we are; see sd_notify(3). */

#ifndef MIRROR_NOTIFY_H
#define MIRROR_NOTIFY_H

/* Send an assignment, as "READY=1", to $NOTIFY_SOCKET: a path, or after "@" an
 * abstract name.  Does not block.  0, also if nobody wants to know; -errno.
 */
extern int notify_send (const char *assignment);

#endif /* MIRROR_NOTIFY_H */
