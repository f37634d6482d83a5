/*
 * The loop of a spawner that forks: takes offers, forks a process for each, reaps them, reports. The same as
 * spawner/loop.py, which explains it, for Python handlers: a process for each connection, or workers. And what those
 * workers wait and report with.
 *
 * Why C? After a fork each of the two processes pays for every page that it writes to, about 3 microseconds, and
 * Python writes to whatever it looks at. The Python loop wrote to some 120 pages between two forks; this one writes to
 * its stack and to `struct spawner`. The interpreter stands still in this process, as it was before the first fork:
 * only the children go on with it.
 *
 * What travels is MessagePack, as net/channel.py frames it.
 */
#define _GNU_SOURCE
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "_once.h"
#include "_orders.h"
#include "_unpack.h"

/* What comes with an offer or a hire: the connection or a channel; and where descriptor 2 is to lead, if it is not to
 * lead where the spawner's does. */
enum { CONNECTION, LOG, MOST_EXPECTED };

enum { MOST_SPARES = 4 };

static const double NEVER = 1e18, LOOK_PERIOD = 0.004, SHORTAGE_PAUSE = 1.0;

/* The spawner. */

struct child {
    pid_t pid;
    long long number;
};

struct spare {
    pid_t pid;
    int channel;
};

/* As spawner/oom.py. */
struct score {
    int descriptor; /* below 0: nothing is to be set */
    char of_children[8], own[8];
};

/* As spawner/title.py. */
enum { LONGEST_TITLE = 96 };

/* As mark.py. */
#define NUMBERS_OF_MARKS ((rlim_t)(1 << 30) - 1)

struct titles {
    char *place; /* NULL: there is none */
    size_t size;
    char of_child[LONGEST_TITLE], of_worker[LONGEST_TITLE];
};

struct spawner {
    int channel;
    struct score score;
    struct titles titles;
    unsigned long long marks; /* those of connections, without their numbers; 0: there are none */
    int expected; /* how many descriptors come with an offer or a hire */
    int wanted_spares, spare_count;
    bool ending, orphaned;
    struct spare spares[MOST_SPARES];
    struct child *children;
    size_t child_count, child_room;
    long long last_number, last_attempt;
    bool looks;
    double look_at, found_at, prepare_at;
    long own_peak_kb;
    sigset_t waiting_mask;
    struct inbox inbox;
    struct outbox outbox;
};

/* What is to be done in this process now: nothing, or it is a child that was forked. */
enum role { SPAWNER, CHILD, SPARE };

static struct spawner self;
static volatile sig_atomic_t child_has_ended;

static void note_end(int signal) {
    (void)signal;
    child_has_ended = 1;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Reports. */

/* Nobody gives orders or reads reports any more, or what comes is none; the children go on. */
static void lose_supervisor(void) {
    self.ending = self.orphaned = true;
    close_passed(&self.inbox.passed);
}

static void send_all_reports(void) {
    if (!self.orphaned && !send_reports(self.channel, &self.outbox))
        lose_supervisor();
    self.outbox.count = 0;
}

static struct outbox *outbox(void) {
    if (!has_room_for_report(&self.outbox))
        send_all_reports();
    return &self.outbox;
}

/* Children. */

static bool has_room_for_child(void) {
    if (self.child_count < self.child_room)
        return true;
    size_t room = self.child_room ? 2 * self.child_room : 256;
    struct child *children = reallocarray(self.children, room, sizeof *children);
    if (children == NULL)
        return false;
    self.children = children;
    self.child_room = room;
    return true;
}

static void add_child(long long number, pid_t pid) {
    self.children[self.child_count++] = (struct child){.pid = pid, .number = number};
}

static void drop_spare(int index) {
    close(self.spares[index].channel);
    self.spare_count--;
    memmove(self.spares + index, self.spares + index + 1, (size_t)(self.spare_count - index) * sizeof *self.spares);
}

static void prepare_in(double seconds) {
    self.prepare_at = self.spare_count < self.wanted_spares ? now() + seconds : NEVER;
}

static double seconds_of(const struct rusage *usage) {
    return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
           (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1e-6;
}

static void forget_child(pid_t pid, int status, const struct rusage *usage) {
    for (size_t i = 0; i < self.child_count; i++)
        if (self.children[i].pid == pid) {
            report_ended(outbox(), self.children[i].number, status, seconds_of(usage),
                         usage->ru_maxrss > self.own_peak_kb ? usage->ru_maxrss : 0);
            self.children[i] = self.children[--self.child_count];
            return;
        }
    /* Somebody has killed a spare child; or it had ended after its connection was sent to it, and is a child above. */
    for (int i = 0; i < self.spare_count; i++)
        if (self.spares[i].pid == pid) {
            drop_spare(i);
            prepare_in(SHORTAGE_PAUSE); /* not at once: if it could not live, the next one can't either */
            return;
        }
}

/* Take those that have ended, the only place that removes one; as policy/moderation.py, decide when to look again. */
static void reap(void) {
    struct rusage usage;
    int status;
    pid_t pid;
    bool found = false;
    child_has_ended = 0;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        if (WIFSTOPPED(status))
            continue; /* it has had itself traced by its parent (PTRACE_TRACEME, ptrace(2)), and lives */
        found = true;
        forget_child(pid, status, &usage);
    }
    double time = now();
    self.looks = found && (self.looks || time - self.found_at < LOOK_PERIOD);
    self.look_at = self.looks ? time + LOOK_PERIOD : NEVER;
    if (found)
        self.found_at = time;
}

/* How many forks this process is away from one of ours: what a handler has forked is no process of ours. */
static int forks_away;

static void note_fork(void) { forks_away++; }

/* In a child: leave all that is the spawner's. A worker has a process group of its own and no session: see `start` in
 * supervisor/dispatch/spawner_process.py. */
static void become_child(bool works) {
    struct sigaction default_action = {.sa_handler = SIG_DFL};
    PyOS_AfterFork_Child();
    forks_away = 0;
    close(self.channel);
    for (int i = 0; i < self.spare_count; i++)
        close(self.spares[i].channel);
    close_passed(&self.inbox.passed);
    if (self.score.descriptor >= 0)
        close(self.score.descriptor);
    if (works)
        setpgid(0, 0);
    else
        setsid();
    if (self.titles.place != NULL)
        memcpy(self.titles.place, works ? self.titles.of_worker : self.titles.of_child, self.titles.size);
    sigaction(SIGCHLD, &default_action, NULL);
    sigprocmask(SIG_SETMASK, &self.waiting_mask, NULL);
}

/* In a child: let descriptor 2 lead to its own log, and 1 with it, for that is where a handler prints to. */
static void take_log(const int *passed) {
    if (self.expected <= LOG)
        return;
    dup2(passed[LOG], 1);
    dup2(passed[LOG], 2);
    close(passed[LOG]);
}

static void set_score(const char *text) {
    if (self.score.descriptor >= 0 && pwrite(self.score.descriptor, text, strlen(text), 0) < 0)
        self.score.descriptor = -1; /* never, for it was set before; its children have the spawner's then */
}

/* As fork(2), with the children's score in the child. */
static pid_t fork_child(void) {
    set_score(self.score.of_children);
    pid_t pid = fork();
    int error = errno;
    if (pid != 0)
        set_score(self.score.own);
    errno = error;
    return pid;
}

static enum role make_spare(int *descriptor) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        prepare_in(SHORTAGE_PAUSE);
        return SPAWNER;
    }
    pid_t pid = fork_child();
    if (pid == 0) {
        become_child(false);
        close(ends[0]);
        *descriptor = ends[1];
        return SPARE;
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        prepare_in(SHORTAGE_PAUSE); /* who needs a child meanwhile is told why there is none */
        return SPAWNER;
    }
    self.spares[self.spare_count++] = (struct spare){.pid = pid, .channel = ends[0]};
    prepare_in(0.0);
    return SPAWNER;
}

/* Send an offer with what came with it; false if nobody is there to take it. */
static bool pass_on(int channel, const unsigned char *order, size_t size, const int *came) {
    struct iovec part = {.iov_base = (void *)order, .iov_len = size};
    struct passed passed = {.count = self.expected};
    memcpy(passed.descriptors, came, (size_t)self.expected * sizeof *came);
    return send_with(channel, &part, 1, &passed, MSG_DONTWAIT) == (ssize_t)size;
}

/* Give a connection to a spare child, or fork one for it; or a worker, with its channel. */
static enum role give(const unsigned char *data, size_t size, const int *came, const struct order *order) {
    double started = now();
    pid_t pid = -1;
    int error = ENOMEM;
    if (has_room_for_child()) {
        while (self.spare_count > 0 && pid < 0) {
            if (pass_on(self.spares[0].channel, data, size, came))
                pid = self.spares[0].pid;
            drop_spare(0); /* used; or somebody has killed it */
        }
        if (pid < 0) {
            pid = fork_child();
            error = errno;
        }
        if (pid == 0) {
            become_child(order->tag == HIRE);
            take_log(came);
            return CHILD;
        }
        prepare_in(0.0);
    }
    if (pid < 0) {
        report_busy(outbox(), order->number, error, "spawn", order->attempt);
    } else {
        add_child(order->number, pid);
        report_taken(outbox(), order->number, pid, now() - started);
    }
    return SPAWNER;
}

/* Make a child for what has come with the order; it has an attempt, if it is an offer. */
static enum role obey_with(const unsigned char *data, size_t size, int *descriptor, const struct order *order) {
    int came[MOST_EXPECTED];
    if (!take_passed_with_order(&self.inbox, came, self.expected)) {
        /* It did not fit into our table; the supervisor has still got its own. */
        report_busy(outbox(), order->number, EMFILE, "recvmsg", order->attempt);
        return SPAWNER;
    }
    enum role role = give(data, size, came, order);
    if (role == SPAWNER)
        for (int i = 0; i < self.expected; i++)
            close(came[i]);
    *descriptor = came[CONNECTION];
    return role;
}

static enum role take_offer(const unsigned char *data, size_t size, int *descriptor, const struct order *offer) {
    if (offer->again && offer->number == self.last_number && offer->attempt == self.last_attempt)
        return SPAWNER;
    self.last_number = offer->number;
    self.last_attempt = offer->attempt;
    return obey_with(data, size, descriptor, offer);
}

/* A child that does not lead its group, because it has not come to that yet or has left it, is signalled itself. */
static void signal_child(pid_t pid, int signal) {
    /* It is not reaped before it leaves the table, so that neither it nor the group can be another's. */
    if (killpg(pid, signal) < 0 || getpgid(pid) != pid)
        kill(pid, signal); /* fails if it has ended, or is not ours to end */
}

static void deliver(long long number, int signal) {
    for (size_t i = 0; i < self.child_count; i++)
        if (self.children[i].number == number)
            signal_child(self.children[i].pid, signal);
}

static enum role obey(const unsigned char *data, size_t size, int *descriptor) {
    struct order order;
    if (!read_order(data, size, &order)) {
        lose_supervisor();
        return SPAWNER;
    }
    switch (order.tag) {
    case OFFER:
        return take_offer(data, size, descriptor, &order);
    case HIRE:
        return obey_with(data, size, descriptor, &order);
    case DELIVER:
        deliver(order.number, order.signal);
        break;
    case RETIRE:
        self.ending = true;
        break;
    }
    return SPAWNER;
}

/* Receive and obey. In a child `order` and `size` are what it was made for. */
static enum role take_orders(const unsigned char **order, size_t *size, int *descriptor) {
    ssize_t count;
    while ((count = receive_orders(self.channel, &self.inbox)) < 0 && errno == EINTR)
        ;
    if (count < 0 && was_shortage(errno))
        return SPAWNER; /* what there is will be read then */
    if (count <= 0) {
        lose_supervisor();
        return SPAWNER;
    }
    while (!self.orphaned && (*order = next_order(&self.inbox, size)) != NULL) {
        enum role role = obey(*order, *size, descriptor);
        if (role != SPAWNER)
            return role;
        finish_order(&self.inbox);
    }
    if (is_astray(&self.inbox))
        lose_supervisor();
    return SPAWNER;
}

/* Wait for an order, for the end of a child, or until there is something to do. */
static bool wait_for_order(void) {
    struct pollfd orders = {.fd = self.orphaned ? -1 : self.channel, .events = POLLIN};
    double until = self.look_at < self.prepare_at ? self.look_at : self.prepare_at;
    struct timespec left = {0};
    if (until < NEVER) {
        double seconds = until - now();
        if (seconds > 0) {
            left.tv_sec = (time_t)seconds;
            left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
        }
    }
    sigset_t mask = self.waiting_mask;
    if (self.looks)
        sigaddset(&mask, SIGCHLD); /* it is looked for */
    return ppoll(&orders, 1, until < NEVER ? &left : NULL, &mask) > 0;
}

/* The loop. It returns in each child; in the spawner when there is nothing more to come and no child left. */
static enum role run(const unsigned char **order, size_t *size, int *descriptor) {
    enum role role = SPAWNER;
    while (role == SPAWNER && (self.child_count > 0 || !self.ending)) {
        bool ordered = wait_for_order();
        if (ordered)
            role = take_orders(order, size, descriptor);
        else if (!child_has_ended && now() >= self.prepare_at)
            role = make_spare(descriptor);
        if (role != SPAWNER)
            break;
        if (child_has_ended || now() >= self.look_at)
            reap();
        if (self.ending) {
            self.wanted_spares = 0;
            self.prepare_at = NEVER;
            while (self.spare_count > 0)
                drop_spare(0);
        }
        send_all_reports();
    }
    return role;
}

static void begin(int channel, int spares, bool passes_log) {
    struct sigaction note = {.sa_handler = note_end, .sa_flags = SA_NOCLDSTOP};
    struct rusage usage;
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ends, &self.waiting_mask);
    sigdelset(&self.waiting_mask, SIGCHLD);
    sigaction(SIGCHLD, &note, NULL);
    getrusage(RUSAGE_SELF, &usage);
    self.own_peak_kb = usage.ru_maxrss;
    self.channel = channel;
    self.expected = passes_log ? MOST_EXPECTED : 1;
    self.wanted_spares = spares < MOST_SPARES ? spares : MOST_SPARES;
    self.last_number = self.last_attempt = -1;
    self.look_at = self.prepare_at = NEVER;
    self.found_at = -NEVER;
    fflush(NULL); /* what a library in C has written, and is not yet written, each child would write again */
    share_what_is_said();
    pthread_atfork(NULL, NULL, note_fork); /* fails for want of memory; then copies are not told apart */
    prepare_in(0.0);
}

/* Give this process the mark of the connection that an order offers (mark.py), where it can have one. */
static void mark_for(PyObject *order) {
    struct rlimit limit;
    PyObject *number = PyTuple_Check(order) && PyTuple_Size(order) > 1 ? PyTuple_GetItem(order, 1) : NULL;
    long long its = number != NULL && PyLong_Check(number) ? PyLong_AsLongLong(number) : -1;
    if (PyErr_Occurred())
        PyErr_Clear(); /* no number of a connection */
    if (self.marks == 0 || its < 0 || getrlimit(RLIMIT_LOCKS, &limit) < 0)
        return;
    limit.rlim_cur = self.marks | ((rlim_t)its & NUMBERS_OF_MARKS);
    if (setrlimit(RLIMIT_LOCKS, &limit) < 0) {
        limit.rlim_cur = 0; /* nor has it another's */
        setrlimit(RLIMIT_LOCKS, &limit);
    }
}

PyDoc_STRVAR(set_marks_doc, "set_marks(marks)\n\nWhat the marks of connections are from now on, but for their numbers.");

static PyObject *set_marks(PyObject *module, PyObject *args) {
    if (!PyArg_ParseTuple(args, "K", &self.marks))
        return NULL;
    Py_RETURN_NONE;
}

/* What a process was made for, or has received: the descriptor, which is closed if the order cannot be unpacked. */
static PyObject *given(int descriptor, const unsigned char *order, size_t size) {
    PyObject *unpacked = unpack_all(order, size);
    if (unpacked != NULL)
        mark_for(unpacked);
    if (unpacked == NULL && descriptor >= 0)
        close(descriptor);
    return unpacked == NULL ? NULL : Py_BuildValue("iN", descriptor, unpacked);
}

PyDoc_STRVAR(set_titles_doc, "set_titles(place, of_child, of_worker)\n\n"
                             "Let every process that is forked write one of these, both of one length, to an address:\n"
                             "that of its arguments.");

static PyObject *set_titles(PyObject *module, PyObject *args) {
    unsigned long long place;
    const char *of_child, *of_worker;
    Py_ssize_t size, other_size;
    if (!PyArg_ParseTuple(args, "Ky#y#", &place, &of_child, &size, &of_worker, &other_size))
        return NULL;
    if (size != other_size || size > LONGEST_TITLE) {
        PyErr_SetString(PyExc_ValueError, "expected two titles of one length");
        return NULL;
    }
    memcpy(self.titles.of_child, of_child, (size_t)size);
    memcpy(self.titles.of_worker, of_worker, (size_t)size);
    self.titles.size = (size_t)size;
    self.titles.place = (char *)(uintptr_t)place;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(serve_doc,
             "serve(channel, spares, passes_log, score, of_children, own) -> (descriptor, order) | None\n\n"
             "Take offers from the channel and fork a process for each, up to `spares` of them ahead. If a log is\n"
             "passed with each, descriptors 1 and 2 of the process lead there. `score` is the descriptor of our\n"
             "oom_score_adj, or below 0; that of children and our own are written there.\n"
             "Returns in every process that was forked, with its connection and the offer; in a spare one with the\n"
             "channel on which both will come, and None. In the spawner itself, at its end: None. Call it once.");

static PyObject *serve(PyObject *module, PyObject *args) {
    int channel, spares, passes_log, of_children, own, descriptor = -1;
    struct score score;
    const unsigned char *order = NULL;
    size_t size = 0;
    if (!PyArg_ParseTuple(args, "iipiii", &channel, &spares, &passes_log, &score.descriptor, &of_children, &own))
        return NULL;
    snprintf(score.of_children, sizeof score.of_children, "%d", of_children);
    snprintf(score.own, sizeof score.own, "%d", own);
    self.score = score;
    begin(channel, spares, passes_log);
    /* Once, and not around each fork: no Python code runs here in between. */
    PyOS_BeforeFork();
    enum role role = run(&order, &size, &descriptor);
    if (role == SPAWNER) {
        PyOS_AfterFork_Parent();
        Py_RETURN_NONE;
    }
    if (role == SPARE)
        return Py_BuildValue("iO", descriptor, Py_None);
    return given(descriptor, order, size);
}

PyDoc_STRVAR(wait_doc, "wait(channel) -> (descriptor, order) | None\n\n"
                       "In a spare child: its connection and the offer, or None if there will be none.");

static PyObject *wait_for_offer(PyObject *module, PyObject *args) {
    int channel, came[MOST_EXPECTED];
    ssize_t size;
    struct inbox *inbox = &self.inbox;
    if (!PyArg_ParseTuple(args, "i", &channel))
        return NULL;
    while ((size = receive_with(channel, inbox->data, sizeof inbox->data, &inbox->passed)) < 0 && errno == EINTR)
        ;
    close(channel);
    bool complete = take_passed(&inbox->passed, came, self.expected);
    close_passed(&inbox->passed);
    if (size <= 0 || !complete) {
        if (complete)
            for (int i = 0; i < self.expected; i++)
                close(came[i]);
        Py_RETURN_NONE;
    }
    take_log(came);
    return given(came[CONNECTION], inbox->data, (size_t)size);
}

/* Workers. What handlers have started, threads and signals' handlers, goes on while one waits. */

static struct inbox workers_inbox;
static struct outbox workers_outbox;

/* There will be none, whatever else has come. */
static PyObject *no_offer(void) {
    close_passed(&workers_inbox.passed);
    workers_inbox.start = workers_inbox.end = 0;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(next_doc, "next(channel) -> (descriptor, order) | None\n\n"
                       "In a worker: its next connection, or -1 if that could not be received, and the offer.\n"
                       "None if no other comes.");

static PyObject *next_offer(PyObject *module, PyObject *args) {
    int channel, connection;
    size_t size;
    const unsigned char *order;
    if (!PyArg_ParseTuple(args, "i", &channel))
        return NULL;
    while ((order = next_order(&workers_inbox, &size)) == NULL) {
        ssize_t count;
        Py_BEGIN_ALLOW_THREADS;
        count = receive_orders(channel, &workers_inbox);
        Py_END_ALLOW_THREADS;
        if (count < 0 && errno == EINTR) {
            if (PyErr_CheckSignals())
                return NULL;
        } else if (count == 0 || (count < 0 && !was_shortage(errno))) {
            return no_offer();
        }
    }
    struct order offer;
    if (!read_order(order, size, &offer) || offer.tag != OFFER)
        return no_offer(); /* it retires, or what came is nothing for it */
    if (!take_passed_with_order(&workers_inbox, &connection, 1))
        connection = -1;
    finish_order(&workers_inbox);
    PyObject *taken = given(connection, order, size);
    if (taken != NULL || !PyErr_ExceptionMatches(PyExc_ValueError))
        return taken;
    PyErr_Clear();
    return no_offer();
}

static PyObject *tell(int channel) {
    bool told;
    Py_BEGIN_ALLOW_THREADS;
    told = send_reports(channel, &workers_outbox);
    Py_END_ALLOW_THREADS;
    return PyBool_FromLong(told);
}

PyDoc_STRVAR(tell_ready_doc, "tell_ready(channel, pid) -> bool\n\n"
                             "In a worker: report that it begins. False if nobody is there to read it.");

static PyObject *tell_ready(PyObject *module, PyObject *args) {
    int channel, pid;
    if (!PyArg_ParseTuple(args, "ii", &channel, &pid))
        return NULL;
    report_ready(&workers_outbox, pid);
    return tell(channel);
}

PyDoc_STRVAR(tell_ended_doc, "tell_ended(channel, number, status, cpu_seconds, leaving) -> bool\n\n"
                             "In a worker: report the end of a connection, and that it takes no other if it leaves.\n"
                             "False if nobody is there to read it.");

static PyObject *tell_ended(PyObject *module, PyObject *args) {
    int channel, status, leaving;
    long long number;
    double cpu_seconds;
    if (!PyArg_ParseTuple(args, "iLidp", &channel, &number, &status, &cpu_seconds, &leaving))
        return NULL;
    if (leaving) /* first: with the end alone it would be offered the next */
        report_leaving(&workers_outbox);
    report_ended(&workers_outbox, number, status, cpu_seconds, 0);
    return tell(channel);
}

PyDoc_STRVAR(tell_lost_doc, "tell_lost(channel, number, attempt) -> bool\n\n"
                            "In a worker: report that it leaves, and that a connection could not be received.\n"
                            "False if nobody is there to read it.");

static PyObject *tell_lost(PyObject *module, PyObject *args) {
    int channel;
    long long number, attempt;
    if (!PyArg_ParseTuple(args, "iLL", &channel, &number, &attempt))
        return NULL;
    report_leaving(&workers_outbox);
    report_busy(&workers_outbox, number, EMFILE, "recvmsg", attempt);
    return tell(channel);
}

PyDoc_STRVAR(is_first_doc, "is_first(text) -> bool\n\n"
                           "In a child: whether none of the spawner's children has asked this before.");

static PyObject *is_first(PyObject *module, PyObject *args) {
    const char *text;
    if (!PyArg_ParseTuple(args, "s", &text))
        return NULL;
    return PyBool_FromLong(is_first_to_say(text));
}

PyDoc_STRVAR(is_copy_doc, "is_copy() -> bool\n\n"
                          "Whether this process was forked by a child of the spawner's, and not by the spawner.");

static PyObject *is_copy(PyObject *module, PyObject *args) { return PyBool_FromLong(forks_away); }

PyDoc_STRVAR(unpack_doc, "unpack(data) -> object\n\nThe value of MessagePack data; arrays are tuples.\n"
                         "Raises ValueError if it is not MessagePack.");

static PyObject *unpack(PyObject *module, PyObject *args) {
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "y#", &data, &size))
        return NULL;
    return unpack_all(data, (size_t)size);
}

static PyMethodDef methods[] = {{"set_titles", set_titles, METH_VARARGS, set_titles_doc},
                                {"set_marks", set_marks, METH_VARARGS, set_marks_doc},
                                {"serve", serve, METH_VARARGS, serve_doc},
                                {"wait", wait_for_offer, METH_VARARGS, wait_doc},
                                {"next", next_offer, METH_VARARGS, next_doc},
                                {"tell_ready", tell_ready, METH_VARARGS, tell_ready_doc},
                                {"tell_ended", tell_ended, METH_VARARGS, tell_ended_doc},
                                {"tell_lost", tell_lost, METH_VARARGS, tell_lost_doc},
                                {"is_first", is_first, METH_VARARGS, is_first_doc},
                                {"is_copy", is_copy, METH_NOARGS, is_copy_doc},
                                {"unpack", unpack, METH_VARARGS, unpack_doc},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_zygote", .m_doc = "Processes by fork.", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__zygote(void) { return PyModuleDef_Init(&definition); }
