/*
 * Closing what another process shares, without ever waiting: see close_shared of calls.py.
 *
 * A close(2) that lingers waits until any signal comes. So an alarm goes off again and again while descriptors are
 * closed, and what it interrupts is the wait, if there is one. It is armed for all closes of a busy time together, for to
 * arm it for each would cost as much as the close itself; only where SO_LINGER is on just now, a quicker one is.
 */
#ifndef TCPPAR_CLOSING_H
#define TCPPAR_CLOSING_H

#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { SLOW_TICK = 20000, QUICK_TICK = 100, QUIET_TICKS = 2 }; /* microseconds; ticks without a close */

static bool alarms_caught;
static volatile sig_atomic_t ticking, closing, quiet_ticks;

static inline void tick_every(int microseconds) {
    struct itimerval time = {.it_interval.tv_usec = microseconds, .it_value.tv_usec = microseconds};
    setitimer(ITIMER_REAL, &time, NULL);
    ticking = microseconds != 0;
}

/* It only has to be there. Never while a close may be about to wait is it the last one. */
static inline void on_alarm(int number) {
    (void)number;
    if (!closing && ++quiet_ticks >= QUIET_TICKS)
        tick_every(0);
}

static inline int catch_alarms(void) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    if (sigaction(SIGALRM, &action, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &alarm, NULL) < 0)
        return -1;
    alarms_caught = true;
    return 0;
}

static inline bool lingers(int descriptor) {
    struct linger linger = {.l_onoff = 0};
    socklen_t size = sizeof linger;
    return getsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, &size) == 0 && linger.l_onoff && linger.l_linger;
}

static inline int close_without_waiting(int descriptor) {
    bool quick = alarms_caught && lingers(descriptor);
    quiet_ticks = 0;
    closing = 1;
    if (quick || (alarms_caught && !ticking))
        tick_every(quick ? QUICK_TICK : SLOW_TICK);
    int result = close(descriptor);
    closing = 0;
    if (quick)
        tick_every(SLOW_TICK);
    return result;
}

#endif
