/*
 * A program run as a child by vfork(2): the one step of a connection's life for which Python has no fast way.
 *
 * Against os.posix_spawn it saves a stack and 64 calls of sigaction(2) for each child, and sets what posix_spawn
 * cannot: resource limits, and LISTEN_PID, which holds the child's own process id.
 *
 * Between vfork and execve the child shares the spawner's memory and borrows its thread, which stands still: it may
 * only make system calls and write to `struct request`. The spawner has no other thread.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_PASSED_DESCRIPTOR = 3, LARGEST_NUMBER = 24, CANNOT_RUN = 111 };

static const char LISTEN_PID[] = "LISTEN_PID=";

struct limit {
    int resource;
    struct rlimit value;
};

struct request {
    const char *program;
    char **arguments;
    char **environment;
    int descriptor;
    int log; /* where descriptor 2 leads; below 0: where the spawner's does */
    char *listen_pid; /* where LISTEN_PID's value goes; NULL: the connection is 0 and 1, not 3 */
    const struct limit *limits;
    Py_ssize_t limit_count;
    sigset_t mask;
    const char *failed; /* what failed, with `error`; set by the child */
    int error;
};

static void write_number(char *to, long number) {
    char digits[LARGEST_NUMBER];
    int count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    while (count > 0)
        *to++ = digits[--count];
    *to = '\0';
}

static int place_descriptors(const struct request *request) {
    if (request->log >= 0 && dup2(request->log, 2) < 0)
        return -1;
    if (request->listen_pid == NULL)
        return dup2(request->descriptor, 0) < 0 || dup2(request->descriptor, 1) < 0;
    write_number(request->listen_pid, (long)getpid());
    if (dup2(2, 1) < 0)
        return -1;
    if (request->descriptor == FIRST_PASSED_DESCRIPTOR)
        return fcntl(FIRST_PASSED_DESCRIPTOR, F_SETFD, 0);
    return dup2(request->descriptor, FIRST_PASSED_DESCRIPTOR) < 0;
}

/* Whether a limit that cannot be set was the mark (mark.py), which costs nobody a client; nor is another's kept then. */
static bool go_on_without_mark(int resource) {
#ifdef __linux__
    struct rlimit limit;
    if (resource == RLIMIT_LOCKS && getrlimit(resource, &limit) == 0) {
        limit.rlim_cur = 0;
        setrlimit(resource, &limit);
    }
    return resource == RLIMIT_LOCKS;
#else
    (void)resource;
    return false;
#endif
}

/* The child; returns only if the program does not run. */
static void become_program(struct request *request) {
    /* The spawner catches SIGCHLD alone (spawner/loop.py); its handler must not run in a child that borrows its memory. */
    struct sigaction default_action = {.sa_handler = SIG_DFL};
    sigaction(SIGCHLD, &default_action, NULL);
    sigprocmask(SIG_SETMASK, &request->mask, NULL);

    request->failed = "the connection";
    if (setsid() < 0 || place_descriptors(request))
        return;
    request->failed = "rlimits";
    for (Py_ssize_t i = 0; i < request->limit_count; i++)
        if (setrlimit(request->limits[i].resource, &request->limits[i].value) &&
            !go_on_without_mark(request->limits[i].resource))
            return;
    request->failed = request->program;
    execve(request->program, request->arguments, request->environment);
}

static pid_t run(struct request *request) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &request->mask);
    volatile pid_t pid = vfork();
    if (pid == 0) {
        become_program(request);
        request->error = errno;
        _exit(CANNOT_RUN);
    }
    if (pid < 0) {
        request->failed = "vfork";
        request->error = errno;
    }
    sigprocmask(SIG_SETMASK, &request->mask, NULL);
    return pid;
}

static PyObject *failed(int error, const char *what) {
    errno = error;
    return PyErr_SetFromErrnoWithFilename(PyExc_OSError, what);
}

/*
 * What a request points to. It is not on the stack: a configuration may have more arguments than that has room for. How
 * many a program can have the kernel knows (execve(2), E2BIG).
 */
struct memory {
    char **arguments, **environment;
    struct limit *limits;
    char listen_pid[sizeof LISTEN_PID + LARGEST_NUMBER];
};

static bool allocate(struct memory *memory, Py_ssize_t arguments, Py_ssize_t variables, Py_ssize_t limits) {
    memory->arguments = calloc((size_t)arguments + 1, sizeof *memory->arguments); /* with the NULL at the end */
    memory->environment = calloc((size_t)variables + 1, sizeof *memory->environment);
    memory->limits = calloc((size_t)limits + 1, sizeof *memory->limits);
    return memory->arguments != NULL && memory->environment != NULL && memory->limits != NULL;
}

static void free_all(const struct memory *memory) {
    free(memory->arguments);
    free(memory->environment);
    free(memory->limits);
}

/* Pointers to the texts of a list of bytes; false if it holds anything else. */
static bool point_at(PyObject *texts, char **pointers) {
    Py_ssize_t count = PyList_Size(texts);
    for (Py_ssize_t i = 0; i < count; i++)
        if (PyBytes_AsStringAndSize(PyList_GetItem(texts, i), &pointers[i], NULL) < 0) /* nor with a NUL in it */
            return false;
    return true;
}

static bool read_limits(PyObject *limits, Py_ssize_t count, struct limit *to) {
    for (Py_ssize_t i = 0; i < count; i++) {
        long long soft, hard;
        if (!PyArg_ParseTuple(PyTuple_GetItem(limits, i), "iLL", &to[i].resource, &soft, &hard))
            return false;
        to[i].value.rlim_cur = (rlim_t)soft; /* -1 is RLIM_INFINITY */
        to[i].value.rlim_max = (rlim_t)hard;
    }
    return true;
}

static PyObject *launch_with(struct request *request) {
    pid_t pid = run(request);
    if (request->error == 0)
        return PyLong_FromLong((long)pid);
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    return failed(request->error, request->failed);
}

PyDoc_STRVAR(launch_doc,
             "launch(program, arguments, environment, more, descriptor, log, listens, limits) -> pid\n\n"
             "Run a program with a connection. Texts are bytes; `more` are further variables, joined by NUL.\n"
             "Descriptor 2 leads where `log` does, or where ours does if that is below 0.\n"
             "Raises OSError with what failed as its filename; then there is no child.");

static PyObject *launch(PyObject *module, PyObject *args) {
    struct request request = {0};
    struct memory memory = {.listen_pid = ""};
    PyObject *arguments, *environment, *limits, *result = NULL;
    char *more;
    Py_ssize_t more_size, count = 0;
    int listens;
    if (!PyArg_ParseTuple(args, "yO!O!y#iipO!", &request.program, &PyList_Type, &arguments, &PyList_Type, &environment,
                          &more, &more_size, &request.descriptor, &request.log, &listens, &PyTuple_Type, &limits))
        return NULL;
    for (Py_ssize_t i = 0; i < more_size; i++)
        count += more[i] == '\0';
    request.limit_count = PyTuple_Size(limits);
    /* Those of the connection, one more than there are NULs between them, and LISTEN_PID. */
    if (!allocate(&memory, PyList_Size(arguments), PyList_Size(environment) + count + 2, request.limit_count)) {
        result = failed(ENOMEM, "the arguments and the environment");
    } else if (read_limits(limits, request.limit_count, memory.limits) && point_at(arguments, memory.arguments) &&
               point_at(environment, memory.environment)) {
        char **end = memory.environment + PyList_Size(environment);
        for (char *text = more; text < more + more_size; text += strlen(text) + 1)
            *end++ = text;
        if (listens) {
            memcpy(memory.listen_pid, LISTEN_PID, sizeof LISTEN_PID);
            request.listen_pid = memory.listen_pid + sizeof LISTEN_PID - 1;
            *end = memory.listen_pid;
        }
        request.arguments = memory.arguments;
        request.environment = memory.environment;
        request.limits = memory.limits;
        result = launch_with(&request);
    }
    free_all(&memory);
    return result;
}

static PyMethodDef methods[] = {{"launch", launch, METH_VARARGS, launch_doc}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_vfork", .m_doc = "Programs run by vfork.", .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__vfork(void) { return PyModuleDef_Init(&definition); }
