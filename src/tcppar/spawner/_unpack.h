/*
 * MessagePack as Python objects; arrays become tuples.
 */
#ifndef TCPPAR_UNPACK_H
#define TCPPAR_UNPACK_H

#include <Python.h>

#include "_messagepack.h"

/* What we send is four levels deep. Each takes some hundred bytes of the stack. */
enum { DEEPEST = 32 };

static PyObject *not_messagepack(const char *why) {
    PyErr_Format(PyExc_ValueError, "what came is not MessagePack%s", why);
    return NULL;
}

static PyObject *unpack_item(struct reader *reader, int depth);

static PyObject *unpack_array(struct reader *reader, long long size, int depth) {
    PyObject *tuple = PyTuple_New((Py_ssize_t)size);
    for (long long i = 0; tuple != NULL && i < size; i++) {
        PyObject *element = unpack_item(reader, depth);
        if (element == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SetItem(tuple, (Py_ssize_t)i, element);
    }
    return tuple;
}

static PyObject *unpack_map(struct reader *reader, long long size, int depth) {
    PyObject *dict = PyDict_New();
    for (long long i = 0; dict != NULL && i < size; i++) {
        PyObject *name = unpack_item(reader, depth), *value = name == NULL ? NULL : unpack_item(reader, depth);
        if (value == NULL || PyDict_SetItem(dict, name, value))
            Py_CLEAR(dict);
        Py_XDECREF(name);
        Py_XDECREF(value);
    }
    if (dict == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        return not_messagepack(" that Python can hold: a map's name is a map");
    }
    return dict;
}

static PyObject *unpack_item(struct reader *reader, int depth) {
    struct item item = read_item(reader);
    if (depth == DEEPEST && (item.kind == ARRAY || item.kind == MAP))
        return not_messagepack(" of ours: it is nested too deeply");
    switch (item.kind) {
    case NOTHING:
        Py_RETURN_NONE;
    case BOOLEAN:
        return PyBool_FromLong((long)item.integer);
    case INTEGER:
        return PyLong_FromLongLong(item.integer);
    case LARGE:
        return PyLong_FromUnsignedLongLong((unsigned long long)item.integer);
    case REAL:
        return PyFloat_FromDouble(item.real);
    case TEXT:
        return PyUnicode_FromStringAndSize(item.bytes, (Py_ssize_t)item.integer);
    case BINARY:
        return PyBytes_FromStringAndSize(item.bytes, (Py_ssize_t)item.integer);
    case ARRAY:
        return unpack_array(reader, item.integer, depth + 1);
    case MAP:
        return unpack_map(reader, item.integer, depth + 1);
    case BROKEN:
        break;
    }
    return not_messagepack("");
}

/* All of it is one item; else NULL, and ValueError is set. */
static PyObject *unpack_all(const void *data, size_t size) {
    struct reader reader = reader_of(data, size);
    PyObject *object = unpack_item(&reader, 0);
    if (object == NULL || is_read_to_the_end(&reader))
        return object;
    Py_DECREF(object);
    return not_messagepack(": something stands behind it");
}

#endif
