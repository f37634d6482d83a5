/*
 * Reading MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md): item by item, or into Python objects.
 *
 * Items are read without making an object, for objects are made in memory that a spawner shares with its children.
 * Extension types and floats of four bytes are not read: msgspec writes none.
 */
#ifndef TCPPAR_MESSAGEPACK_H
#define TCPPAR_MESSAGEPACK_H

#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

enum kind { NOTHING, BOOLEAN, INTEGER, REAL, TEXT, BINARY, ARRAY, MAP, BROKEN };

struct reader {
    const unsigned char *at, *end;
    bool ended; /* in the middle of something */
};

struct item {
    enum kind kind;
    long long integer; /* the value; of what has a size, the size */
    double real;
    const char *bytes;
};

static const struct item broken = {.kind = BROKEN};

/* An unsigned number of so many bytes, big endian. */
static uint64_t read_number(struct reader *reader, int bytes) {
    uint64_t number = 0;
    if (reader->end - reader->at < bytes) {
        reader->ended = true;
        return 0;
    }
    while (bytes-- > 0)
        number = number << 8 | *reader->at++;
    return number;
}

static struct item sized(struct reader *reader, enum kind kind, uint64_t size) {
    struct item item = {.kind = kind, .integer = (long long)size, .bytes = (const char *)reader->at};
    if (size > (uint64_t)(reader->end - reader->at)) /* each element takes a byte at least */
        return broken;
    if (kind == TEXT || kind == BINARY)
        reader->at += size;
    return item;
}

static struct item read_any(struct reader *reader) {
    if (reader->at >= reader->end)
        return broken;
    unsigned char first = *reader->at++;
    if (first <= 0x7f || first >= 0xe0)
        return (struct item){.kind = INTEGER, .integer = (signed char)first};
    if (first <= 0x8f)
        return sized(reader, MAP, first & 0x0f);
    if (first <= 0x9f)
        return sized(reader, ARRAY, first & 0x0f);
    if (first <= 0xbf)
        return sized(reader, TEXT, first & 0x1f);
    switch (first) {
    case 0xc0:
        return (struct item){.kind = NOTHING};
    case 0xc2:
    case 0xc3:
        return (struct item){.kind = BOOLEAN, .integer = first & 1};
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return sized(reader, BINARY, read_number(reader, 1 << (first - 0xc4)));
    case 0xcb: {
        union {
            uint64_t bits;
            double real;
        } value = {.bits = read_number(reader, 8)};
        return (struct item){.kind = REAL, .real = value.real};
    }
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return (struct item){.kind = INTEGER, .integer = (long long)read_number(reader, 1 << (first - 0xcc))};
    case 0xd0:
        return (struct item){.kind = INTEGER, .integer = (int8_t)read_number(reader, 1)};
    case 0xd1:
        return (struct item){.kind = INTEGER, .integer = (int16_t)read_number(reader, 2)};
    case 0xd2:
        return (struct item){.kind = INTEGER, .integer = (int32_t)read_number(reader, 4)};
    case 0xd3:
        return (struct item){.kind = INTEGER, .integer = (int64_t)read_number(reader, 8)};
    case 0xd9:
    case 0xda:
    case 0xdb:
        return sized(reader, TEXT, read_number(reader, 1 << (first - 0xd9)));
    case 0xdc:
    case 0xdd:
        return sized(reader, ARRAY, read_number(reader, 2 << (first - 0xdc)));
    case 0xde:
    case 0xdf:
        return sized(reader, MAP, read_number(reader, 2 << (first - 0xde)));
    }
    return broken;
}

static struct item read_item(struct reader *reader) {
    struct item item = read_any(reader);
    return reader->ended ? broken : item;
}

static long long read_integer(struct reader *reader) { return read_item(reader).integer; }

static void skip(struct reader *reader) {
    struct item item = read_item(reader);
    long long inner = item.kind == ARRAY ? item.integer : item.kind == MAP ? 2 * item.integer : 0;
    while (inner-- > 0 && reader->at < reader->end)
        skip(reader);
}

static PyObject *unpack_item(struct reader *reader);

static PyObject *unpack_array(struct reader *reader, long long size) {
    PyObject *tuple = PyTuple_New((Py_ssize_t)size);
    for (long long i = 0; tuple != NULL && i < size; i++) {
        PyObject *element = unpack_item(reader);
        if (element == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SetItem(tuple, (Py_ssize_t)i, element);
    }
    return tuple;
}

static PyObject *unpack_map(struct reader *reader, long long size) {
    PyObject *dict = PyDict_New();
    for (long long i = 0; dict != NULL && i < size; i++) {
        PyObject *name = unpack_item(reader), *value = name == NULL ? NULL : unpack_item(reader);
        if (value == NULL || PyDict_SetItem(dict, name, value))
            Py_CLEAR(dict);
        Py_XDECREF(name);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *unpack_item(struct reader *reader) {
    struct item item = read_item(reader);
    switch (item.kind) {
    case NOTHING:
        Py_RETURN_NONE;
    case BOOLEAN:
        return PyBool_FromLong((long)item.integer);
    case INTEGER:
        return PyLong_FromLongLong(item.integer);
    case REAL:
        return PyFloat_FromDouble(item.real);
    case TEXT:
        return PyUnicode_FromStringAndSize(item.bytes, (Py_ssize_t)item.integer);
    case BINARY:
        return PyBytes_FromStringAndSize(item.bytes, (Py_ssize_t)item.integer);
    case ARRAY:
        return unpack_array(reader, item.integer);
    case MAP:
        return unpack_map(reader, item.integer);
    case BROKEN:
        break;
    }
    PyErr_SetString(PyExc_ValueError, "what came is not MessagePack");
    return NULL;
}

#endif
