/*
 * The loop of a spawner that forks: takes offers, forks a process for each, reaps them, reports. The same as
 * spawner/loop.py, which explains it, for one case: a Python handler, and a process of its own for each connection.
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

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../net/_passing.h"
#include "_messagepack.h"

/* The tags of records.py. */
enum { OFFER = 1, DELIVER = 2, RETIRE = 3 };
enum { TAKEN = 3, BUSY = 4, ENDED = 6 };

enum { LENGTH = 4, LARGEST_ORDER = 8192, REPORTS = 4096, LARGEST_REPORT = 64, MOST_SPARES = 4 };

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

struct spawner {
    int channel;
    int wanted_spares, spare_count;
    bool ending, orphaned;
    struct spare spares[MOST_SPARES];
    struct passed passed;
    struct child *children;
    size_t child_count, child_room;
    long long last_number, last_attempt;
    bool looks;
    double look_at, found_at, prepare_at;
    long own_peak_kb;
    sigset_t waiting_mask;
    size_t in_size, out_size;
    int report_count;
    unsigned char in[LARGEST_ORDER], out[REPORTS];
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

/* Orders with their connections. */

/* Send an order with its descriptor; false if nobody is there to take it. */
static bool pass_on(int channel, const unsigned char *order, size_t size, int descriptor) {
    struct iovec part = {.iov_base = (void *)order, .iov_len = size};
    return send_with(channel, &part, 1, descriptor, MSG_DONTWAIT) == (ssize_t)size;
}

static ssize_t receive(int channel, void *to, size_t size, struct passed *passed) {
    ssize_t count;
    while ((count = receive_with(channel, to, size, passed)) < 0 && errno == EINTR)
        ;
    return count;
}

/* Reports. */

static void send_reports(void) {
    size_t sent = 0, size = self.out_size;
    if (self.report_count == 0)
        return;
    self.out[4] = 0xdc; /* an array, its size in two bytes */
    self.out[5] = (unsigned char)(self.report_count >> 8);
    self.out[6] = (unsigned char)self.report_count;
    uint32_t length = htobe32((uint32_t)(size - LENGTH));
    memcpy(self.out, &length, LENGTH);
    while (!self.orphaned && sent < size) {
        ssize_t count = send(self.channel, self.out + sent, size - sent, MSG_NOSIGNAL);
        if (count >= 0)
            sent += (size_t)count;
        else if (errno != EINTR)
            self.ending = self.orphaned = true;
    }
    self.report_count = 0;
}

static void put(unsigned char first, uint64_t number) {
    uint64_t ordered = htobe64(number);
    self.out[self.out_size++] = first;
    memcpy(self.out + self.out_size, &ordered, sizeof ordered);
    self.out_size += sizeof ordered;
}

static void put_integer(long long number) { put(0xd3, (uint64_t)number); }

static void put_real(double real) {
    uint64_t bits;
    memcpy(&bits, &real, sizeof bits);
    put(0xcb, bits);
}

static void put_text(const char *text) {
    size_t size = strlen(text); /* below 32 */
    self.out[self.out_size++] = (unsigned char)(0xa0 | size);
    memcpy(self.out + self.out_size, text, size);
    self.out_size += size;
}

static void begin_report(int tag, int fields, long long number) {
    if (self.report_count > 0 && self.out_size + LARGEST_REPORT > REPORTS)
        send_reports();
    if (self.report_count++ == 0)
        self.out_size = LENGTH + 3;
    self.out[self.out_size++] = (unsigned char)(0x90 | (fields + 1));
    self.out[self.out_size++] = (unsigned char)tag;
    put_integer(number);
}

static void report_taken(long long number, pid_t pid, double seconds) {
    begin_report(TAKEN, 3, number);
    put_integer(pid);
    put_real(seconds);
}

static void report_busy(long long number, int error, const char *call, long long attempt) {
    begin_report(BUSY, 4, number);
    put_integer(error);
    put_text(call);
    put_integer(attempt);
}

static void report_ended(long long number, int status, const struct rusage *usage) {
    begin_report(ENDED, 4, number);
    put_integer(status);
    put_real((double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
             (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1e-6);
    if (usage->ru_maxrss > self.own_peak_kb)
        put_integer(usage->ru_maxrss);
    else
        self.out[self.out_size++] = 0xc0;
}

/* Children. */

static bool has_room_for_child(void) {
    if (self.child_count < self.child_room)
        return true;
    size_t room = self.child_room ? 2 * self.child_room : 256;
    struct child *children = realloc(self.children, room * sizeof *children);
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

static void forget_child(pid_t pid, int status, const struct rusage *usage) {
    for (size_t i = 0; i < self.child_count; i++)
        if (self.children[i].pid == pid) {
            report_ended(self.children[i].number, status, usage);
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
        found = true;
        forget_child(pid, status, &usage);
    }
    double time = now();
    self.looks = found && (self.looks || time - self.found_at < LOOK_PERIOD);
    self.look_at = self.looks ? time + LOOK_PERIOD : NEVER;
    if (found)
        self.found_at = time;
}

/* In a child: leave all that is the spawner's. */
static void become_child(void) {
    struct sigaction default_action = {.sa_handler = SIG_DFL};
    PyOS_AfterFork_Child();
    close(self.channel);
    for (int i = 0; i < self.spare_count; i++)
        close(self.spares[i].channel);
    for (int i = 0; i < self.passed.count; i++)
        close(self.passed.descriptors[i]);
    setpgid(0, 0);
    sigaction(SIGCHLD, &default_action, NULL);
    sigprocmask(SIG_SETMASK, &self.waiting_mask, NULL);
}

static enum role make_spare(int *descriptor) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        prepare_in(SHORTAGE_PAUSE);
        return SPAWNER;
    }
    pid_t pid = fork();
    if (pid == 0) {
        become_child();
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

/* Give a connection to a spare child, or fork one for it. */
static enum role give(const unsigned char *order, size_t size, int descriptor, long long number, long long attempt) {
    double started = now();
    pid_t pid = -1;
    int error = ENOMEM;
    if (has_room_for_child()) {
        while (self.spare_count > 0 && pid < 0) {
            if (pass_on(self.spares[0].channel, order, size, descriptor))
                pid = self.spares[0].pid;
            drop_spare(0); /* used; or somebody has killed it */
        }
        if (pid < 0) {
            pid = fork();
            error = errno;
        }
        if (pid == 0) {
            become_child();
            return CHILD;
        }
        prepare_in(0.0);
    }
    if (pid < 0) {
        report_busy(number, error, "spawn", attempt);
    } else {
        add_child(number, pid);
        report_taken(number, pid, now() - started);
    }
    return SPAWNER;
}

static enum role take_offer(struct reader *reader, const unsigned char *order, size_t size, int *descriptor) {
    long long number = read_integer(reader);
    skip(reader); /* both ends */
    skip(reader); /* credentials */
    long long attempt = read_integer(reader), again = read_integer(reader);
    bool repeated = again && number == self.last_number && attempt == self.last_attempt;
    self.last_number = number;
    self.last_attempt = attempt;
    if ((*descriptor = take_passed(&self.passed)) < 0) {
        /* It did not fit into our table; the supervisor has still got its own. */
        if (!repeated)
            report_busy(number, EMFILE, "recvmsg", attempt);
        return SPAWNER;
    }
    if (!repeated && give(order, size, *descriptor, number, attempt) == CHILD)
        return CHILD;
    close(*descriptor);
    return SPAWNER;
}

static void deliver(long long number, int signal) {
    /* The child is not reaped before it leaves this table, so that the group cannot be another's. */
    for (size_t i = 0; i < self.child_count; i++)
        if (self.children[i].number == number)
            killpg(self.children[i].pid, signal); /* fails if it has ended, or is not ours to end */
}

static enum role obey(const unsigned char *order, size_t size, int *descriptor) {
    struct reader reader = {.at = order, .end = order + size};
    read_item(&reader); /* an array */
    switch (read_integer(&reader)) {
    case OFFER:
        return take_offer(&reader, order, size, descriptor);
    case DELIVER: {
        long long number = read_integer(&reader);
        deliver(number, (int)read_integer(&reader));
        break;
    }
    case RETIRE:
        self.ending = true;
        break;
    }
    return SPAWNER;
}

/* Obey all whole frames that are there. In a child `order` and `size` are what it was made for. */
static enum role obey_all(const unsigned char **order, size_t *size, int *descriptor) {
    size_t start = 0;
    uint32_t length;
    while (self.in_size - start >= LENGTH) {
        memcpy(&length, self.in + start, LENGTH);
        length = be32toh(length);
        if (self.in_size - start - LENGTH < length)
            break;
        *order = self.in + start + LENGTH;
        *size = length;
        if (obey(*order, length, descriptor) == CHILD)
            return CHILD;
        start += LENGTH + length;
    }
    memmove(self.in, self.in + start, self.in_size -= start);
    return SPAWNER;
}

static enum role take_orders(const unsigned char **order, size_t *size, int *descriptor) {
    ssize_t count = receive(self.channel, self.in + self.in_size, sizeof self.in - self.in_size, &self.passed);
    if (count <= 0) {
        /* Nobody gives orders or reads reports any more (or what came is not a frame); the children go on. */
        self.ending = self.orphaned = true;
        return SPAWNER;
    }
    self.in_size += (size_t)count;
    return obey_all(order, size, descriptor);
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
        send_reports();
    }
    return role;
}

static void begin(int channel, int spares) {
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
    self.wanted_spares = spares < MOST_SPARES ? spares : MOST_SPARES;
    self.last_number = self.last_attempt = -1;
    self.look_at = self.prepare_at = NEVER;
    self.found_at = -NEVER;
    prepare_in(0.0);
}

PyDoc_STRVAR(serve_doc,
             "serve(channel, spares) -> (descriptor, order) | None\n\n"
             "Take offers from the channel and fork a process for each, up to `spares` of them ahead.\n"
             "Returns in every process that was forked, with its connection and the offer; in a spare one with the\n"
             "channel on which both will come, and None. In the spawner itself, at its end: None. Call it once.");

static PyObject *serve(PyObject *module, PyObject *args) {
    int channel, spares, descriptor = -1;
    const unsigned char *order = NULL;
    size_t size = 0;
    if (!PyArg_ParseTuple(args, "ii", &channel, &spares))
        return NULL;
    begin(channel, spares);
    /* Once, and not around each fork: no Python code runs here in between. */
    PyOS_BeforeFork();
    enum role role = run(&order, &size, &descriptor);
    if (role == SPAWNER) {
        PyOS_AfterFork_Parent();
        Py_RETURN_NONE;
    }
    if (role == SPARE)
        return Py_BuildValue("iO", descriptor, Py_None);
    struct reader reader = {.at = order, .end = order + size};
    return Py_BuildValue("iN", descriptor, unpack_item(&reader));
}

PyDoc_STRVAR(wait_doc, "wait(channel) -> (descriptor, order) | None\n\n"
                       "In a spare child: its connection and the offer, or None if there will be none.");

static PyObject *wait_for_offer(PyObject *module, PyObject *args) {
    int channel;
    struct passed passed = {.count = 0};
    if (!PyArg_ParseTuple(args, "i", &channel))
        return NULL;
    ssize_t size = receive(channel, self.in, sizeof self.in, &passed);
    close(channel);
    if (size <= 0 || passed.count == 0)
        Py_RETURN_NONE;
    struct reader reader = {.at = self.in, .end = self.in + size};
    return Py_BuildValue("iN", take_passed(&passed), unpack_item(&reader));
}

PyDoc_STRVAR(unpack_doc, "unpack(data) -> object\n\nThe value of MessagePack data; arrays are tuples.\n"
                         "Raises ValueError if it is not MessagePack.");

static PyObject *unpack(PyObject *module, PyObject *args) {
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "y#", &data, &size))
        return NULL;
    struct reader reader = {.at = (const unsigned char *)data, .end = (const unsigned char *)data + size};
    return unpack_item(&reader);
}

static PyMethodDef methods[] = {{"serve", serve, METH_VARARGS, serve_doc},
                                {"wait", wait_for_offer, METH_VARARGS, wait_doc},
                                {"unpack", unpack, METH_VARARGS, unpack_doc},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_zygote", .m_doc = "Processes by fork.", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__zygote(void) { return PyModuleDef_Init(&definition); }
