/*
 * Reading MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md), item by item.
 *
 * No object is made, for objects are made in memory that a spawner shares with its children; and nothing calls itself,
 * for whoever writes the items decides how deep they are nested. Extension types are not read: msgspec writes none.
 */
#ifndef TCPPAR_MESSAGEPACK_H
#define TCPPAR_MESSAGEPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* LARGE: an integer above what a long long holds, as the unsigned number of the same bits. */
enum kind { NOTHING, BOOLEAN, INTEGER, LARGE, REAL, TEXT, BINARY, ARRAY, MAP, BROKEN };

enum { NIL = 0xc0 };

struct reader {
    const unsigned char *at, *end;
    uint64_t owed; /* items that are still to come, those of arrays and maps that have begun among them */
    bool broken;   /* what came is not MessagePack, and nothing more of it is read */
};

struct item {
    enum kind kind;
    long long integer; /* the value; of what has a size, the size */
    double real;
    const char *bytes;
};

static const struct item broken = {.kind = BROKEN};

/* Of one item. */
static struct reader reader_of(const void *data, size_t size) {
    return (struct reader){.at = data, .end = (const unsigned char *)data + size, .owed = 1};
}

/* Whether the item was read to its end, and nothing stands behind it. */
static bool is_read_to_the_end(const struct reader *reader) {
    return !reader->broken && reader->owed == 0 && reader->at == reader->end;
}

/* An unsigned number of so many bytes, big endian. */
static uint64_t read_number(struct reader *reader, int bytes) {
    uint64_t number = 0;
    if (reader->end - reader->at < bytes) {
        reader->broken = true;
        return 0;
    }
    while (bytes-- > 0)
        number = number << 8 | *reader->at++;
    return number;
}

/*
 * The size is below 2^32. Each item that is owed takes a byte at least: an array that claims more of them than there are
 * bytes left beside those that others have claimed is refused before anybody makes room for it.
 */
static struct item sized(struct reader *reader, enum kind kind, uint64_t size) {
    struct item item = {.kind = kind, .integer = (long long)size, .bytes = (const char *)reader->at};
    uint64_t left = (uint64_t)(reader->end - reader->at);
    uint64_t items = kind == ARRAY ? size : kind == MAP ? 2 * size : 0;
    uint64_t bytes = kind == TEXT || kind == BINARY ? size : 0;
    if (items + bytes + reader->owed > left)
        return broken;
    reader->owed += items;
    reader->at += bytes;
    return item;
}

static struct item of_natural(uint64_t number) {
    return (struct item){.kind = number > INT64_MAX ? LARGE : INTEGER, .integer = (long long)number};
}

static struct item of_float(uint64_t bits) {
    struct item item = {.kind = REAL};
    uint32_t low = (uint32_t)bits;
    float number;
    memcpy(&number, &low, sizeof number);
    item.real = (double)number;
    return item;
}

static struct item of_double(uint64_t bits) {
    struct item item = {.kind = REAL};
    memcpy(&item.real, &bits, sizeof bits);
    return item;
}

static struct item read_any(struct reader *reader) {
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
    case NIL:
        return (struct item){.kind = NOTHING};
    case 0xc2:
    case 0xc3:
        return (struct item){.kind = BOOLEAN, .integer = first & 1};
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return sized(reader, BINARY, read_number(reader, 1 << (first - 0xc4)));
    case 0xca:
        return of_float(read_number(reader, 4));
    case 0xcb:
        return of_double(read_number(reader, 8));
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return of_natural(read_number(reader, 1 << (first - 0xcc)));
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

/* The next one. After one that is broken all are. */
static struct item read_item(struct reader *reader) {
    struct item item = broken;
    if (!reader->broken && reader->owed > 0 && reader->at < reader->end) {
        reader->owed--;
        item = read_any(reader);
    }
    if (item.kind == BROKEN)
        reader->broken = true;
    return reader->broken ? broken : item;
}

/* The next one, which is broken unless it is of that kind. */
static struct item read_kind(struct reader *reader, enum kind kind) {
    struct item item = read_item(reader);
    if (item.kind != kind)
        reader->broken = true;
    return reader->broken ? broken : item;
}

static long long read_integer(struct reader *reader) { return read_kind(reader, INTEGER).integer; }

/* How much is owed behind the next item and all that is in it. */
static uint64_t owed_behind_next(const struct reader *reader) { return reader->owed > 0 ? reader->owed - 1 : 0; }

/* Read over items until no more than so many are owed. */
static void skip_to(struct reader *reader, uint64_t owed) {
    while (!reader->broken && reader->owed > owed)
        read_item(reader);
}

/* Read over an item, with all that is in it. */
static void skip(struct reader *reader) { skip_to(reader, owed_behind_next(reader)); }

#endif
