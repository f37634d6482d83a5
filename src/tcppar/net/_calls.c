/*
 * The system calls of net/calls.py, which explains them, without the objects that the socket module makes for each.
 */
#define _GNU_SOURCE
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <arpa/inet.h>
#include <endian.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "_closing.h"
#include "_passing.h"

enum { READ_SIZE = 65536 };

/* SO_PASSRIGHTS of Linux 6.16 (asm-generic/socket.h). */
enum { TCPPAR_PASSRIGHTS = 83 };

/* Whether a call that failed is to be made once more: a signal interrupted it, and its handler raises nothing. */
static bool is_worth_another(ssize_t result) { return result < 0 && errno == EINTR && PyErr_CheckSignals() == 0; }

/* The error of a call that failed, unless a signal's handler has raised one. */
static PyObject *failed(void) { return PyErr_Occurred() ? NULL : PyErr_SetFromErrno(PyExc_OSError); }

/* The number of a socket object; below 0, and an error set, if it is closed, or none. */
static int number_of(PyObject *end) {
    int number = PyObject_AsFileDescriptor(end);
    if (number < 0 && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        errno = EBADF;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return number;
}

/* The numbers of a tuple; false, and an error set, if it holds anything else, or too many. */
static bool read_passed(PyObject *numbers, struct passed *passed) {
    Py_ssize_t count = PyTuple_Size(numbers);
    if (count > MOST_PASSED) {
        PyErr_Format(PyExc_ValueError, "%zd descriptors: expected %d at the most", count, MOST_PASSED);
        return false;
    }
    for (passed->count = 0; passed->count < count; passed->count++) {
        long number = PyLong_AsLong(PyTuple_GetItem(numbers, passed->count));
        if (number == -1 && PyErr_Occurred())
            return false;
        passed->descriptors[passed->count] = (int)number;
    }
    return true;
}

static PyObject *send_frame(PyObject *module, PyObject *args) {
    PyObject *end, *numbers;
    const char *body;
    Py_ssize_t size;
    struct passed passed;
    int channel;
    if (!PyArg_ParseTuple(args, "Oy#O!", &end, &body, &size, &PyTuple_Type, &numbers) || (channel = number_of(end)) < 0 ||
        !read_passed(numbers, &passed))
        return NULL;
    if ((uint64_t)size > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a frame's body is too large for its length");
        return NULL;
    }
    uint32_t length = htobe32((uint32_t)size);
    struct iovec parts[] = {{.iov_base = &length, .iov_len = sizeof length},
                            {.iov_base = (void *)body, .iov_len = (size_t)size}};
    size_t left = sizeof length + (size_t)size;
    while (left > 0) {
        ssize_t sent;
        Py_BEGIN_ALLOW_THREADS;
        sent = send_with(channel, parts, 2, &passed, 0);
        Py_END_ALLOW_THREADS;
        if (is_worth_another(sent))
            continue;
        if (sent < 0 && !PyErr_Occurred() && errno == EAGAIN && left < sizeof length + (size_t)size)
            return PyBool_FromLong(0);
        if (sent < 0)
            return failed();
        left -= (size_t)sent;
        passed.count = 0; /* they have gone with the first byte */
        for (int i = 0; i < 2; i++) {
            size_t gone = (size_t)sent < parts[i].iov_len ? (size_t)sent : parts[i].iov_len;
            parts[i].iov_base = (char *)parts[i].iov_base + gone;
            parts[i].iov_len -= gone;
            sent -= (ssize_t)gone;
        }
    }
    return PyBool_FromLong(1);
}

static PyObject *list_of(const struct passed *passed) {
    PyObject *list = PyList_New(passed->count);
    for (int i = 0; list != NULL && i < passed->count; i++) {
        PyObject *descriptor = PyLong_FromLong(passed->descriptors[i]);
        if (descriptor == NULL || PyList_SetItem(list, i, descriptor) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *read_stream(PyObject *module, PyObject *args) {
    PyObject *end;
    char data[READ_SIZE];
    int flags, channel, most = READ_SIZE;
    ssize_t size;
    if (!PyArg_ParseTuple(args, "Oi|i", &end, &flags, &most) || (channel = number_of(end)) < 0)
        return NULL;
    size_t room = most < 0 ? 0 : most < READ_SIZE ? (size_t)most : READ_SIZE;
    do {
        Py_BEGIN_ALLOW_THREADS;
        size = receive_without(channel, data, room, flags);
        Py_END_ALLOW_THREADS;
    } while (is_worth_another(size));
    return size < 0 ? failed() : PyBytes_FromStringAndSize(data, size);
}

static PyObject *receive(PyObject *module, PyObject *args) {
    PyObject *end;
    char data[READ_SIZE];
    struct passed passed = {.count = 0};
    int channel;
    Py_ssize_t most;
    ssize_t size;
    if (!PyArg_ParseTuple(args, "On", &end, &most) || (channel = number_of(end)) < 0)
        return NULL;
    if (most < 1 || most > (Py_ssize_t)sizeof data)
        most = sizeof data;
    do {
        Py_BEGIN_ALLOW_THREADS;
        size = receive_with(channel, data, (size_t)most, &passed);
        Py_END_ALLOW_THREADS;
    } while (is_worth_another(size));
    if (size < 0)
        return failed();
    PyObject *descriptors = list_of(&passed);
    PyObject *received = descriptors == NULL ? NULL : Py_BuildValue("y#N", data, (Py_ssize_t)size, descriptors);
    if (received == NULL)
        close_passed(&passed);
    return received;
}

static PyObject *log_pair(PyObject *module, PyObject *args) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return failed();
    /* None of these fails for a socket that is new, but for the last one before Linux 6.16. */
    fcntl(ends[0], F_SETFL, O_RDWR | O_NONBLOCK);
    shutdown(ends[0], SHUT_WR);
    setsockopt(ends[0], SOL_SOCKET, TCPPAR_PASSRIGHTS, &(int){0}, sizeof(int));
    return Py_BuildValue("ii", ends[0], ends[1]);
}

union name {
    struct sockaddr any;
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
};

/* The numeric address; None if it is of another family. */
static PyObject *host_of(const union name *name) {
    char text[INET6_ADDRSTRLEN];
    const void *address =
        name->any.sa_family == AF_INET6 ? (void *)&name->ipv6.sin6_addr : (void *)&name->ipv4.sin_addr;
    if (inet_ntop(name->any.sa_family, address, text, sizeof text) == NULL)
        Py_RETURN_NONE;
    return PyUnicode_FromString(text);
}

/* The address that a connection's client has connected to; None if it cannot be told any more. */
static PyObject *local_host(int descriptor) {
    union name name = {0};
    socklen_t size = sizeof name;
    if (getsockname(descriptor, &name.any, &size) < 0)
        Py_RETURN_NONE;
    return host_of(&name);
}

/* A connection on which nothing was sent yet counts the time since the last data from the end of its handshake. */
static PyObject *seconds_queued(int descriptor) {
    struct tcp_info info;
    const socklen_t wanted = offsetof(struct tcp_info, tcpi_last_ack_sent);
    socklen_t size = wanted;
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 || size < wanted)
        Py_RETURN_NONE;
    return PyFloat_FromDouble((double)info.tcpi_last_data_sent / 1000);
}

static PyObject *host_if(int local, int descriptor) {
    return local ? local_host(descriptor) : Py_NewRef(Py_None);
}

static PyObject *seconds_if(int queued, int descriptor) {
    return queued ? seconds_queued(descriptor) : Py_NewRef(Py_None);
}

/* Py_BuildValue returns NULL if it is given one, whose error is set, for an object. */

static PyObject *look(PyObject *module, PyObject *args) {
    int descriptor, local, queued;
    if (!PyArg_ParseTuple(args, "ipp", &descriptor, &local, &queued))
        return NULL;
    return Py_BuildValue("NN", host_if(local, descriptor), seconds_if(queued, descriptor));
}

/*
 * As accept4(2); where a filter of system calls forbids that (seccomp(2)), in two steps. The first call shows which it is:
 * later on the same error is a false alarm, or a firewall's (accept(2)), and is for our caller to sort.
 */
static int accept_closed_on_exec(int listener, struct sockaddr *peer, socklen_t *size) {
    static enum { UNTRIED, ALLOWED, FORBIDDEN } accept4_is;
    if (accept4_is != FORBIDDEN) {
        int descriptor = accept4(listener, peer, size, SOCK_CLOEXEC);
        if (descriptor >= 0 || accept4_is == ALLOWED || (errno != EPERM && errno != ENOSYS)) {
            accept4_is = ALLOWED;
            return descriptor;
        }
    }
    int descriptor = accept(listener, peer, size);
    if (descriptor >= 0) {
        accept4_is = FORBIDDEN;
        fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    }
    return descriptor;
}

static PyObject *accept_tcp(PyObject *module, PyObject *args) {
    PyObject *listener;
    int local, queued, number, descriptor;
    union name peer = {0};
    socklen_t size = sizeof peer;
    if (!PyArg_ParseTuple(args, "Opp", &listener, &local, &queued) || (number = number_of(listener)) < 0)
        return NULL;
    do
        descriptor = accept_closed_on_exec(number, &peer.any, &size);
    while (is_worth_another(descriptor));
    if (descriptor < 0)
        return failed();
    int port = ntohs(peer.any.sa_family == AF_INET6 ? peer.ipv6.sin6_port : peer.ipv4.sin_port);
    PyObject *accepted = Py_BuildValue("iNiNN", descriptor, host_of(&peer), port, host_if(local, descriptor),
                                       seconds_if(queued, descriptor));
    if (accepted == NULL)
        close(descriptor);
    return accepted;
}

static PyObject *close_shared(PyObject *module, PyObject *args) {
    int descriptor;
    if (!PyArg_ParseTuple(args, "i", &descriptor))
        return NULL;
    if (close_without_waiting(descriptor) < 0 && errno != EINTR) /* interrupted, it is closed all the same (close(2)) */
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *catch_alarm(PyObject *module, PyObject *args) {
    if (catch_alarms() < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *refuse_tracers(PyObject *module, PyObject *args) {
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"accept", accept_tcp, METH_VARARGS, NULL},
                                {"send", send_frame, METH_VARARGS, NULL},
                                {"read", read_stream, METH_VARARGS, NULL},
                                {"receive", receive, METH_VARARGS, NULL},
                                {"log_pair", log_pair, METH_NOARGS, NULL},
                                {"look", look, METH_VARARGS, NULL},
                                {"close_shared", close_shared, METH_VARARGS, NULL},
                                {"refuse_tracers", refuse_tracers, METH_NOARGS, NULL},
                                {"catch_alarm", catch_alarm, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_calls", .m_doc = "See calls.py.", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__calls(void) { return PyModuleDef_Init(&definition); }
