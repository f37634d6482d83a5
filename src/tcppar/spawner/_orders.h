/*
 * Orders from the supervisor and reports to it, as net/channel.py frames them and records.py describes them.
 */
#ifndef TCPPAR_ORDERS_H
#define TCPPAR_ORDERS_H

#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../net/_passing.h"
#include "_messagepack.h"

/* The tags of records.py. */
enum { OFFER = 1, DELIVER = 2, RETIRE = 3, HIRE = 4 };
enum { READY = 1, TAKEN = 3, BUSY = 4, ENDED = 6, LEAVING = 7 };

enum { LENGTH = 4, LARGEST_ORDER = 8192, REPORTS = 4096, LARGEST_REPORT = 64 };

/* Orders that have come, of which those before `start` are obeyed. What was passed belongs to the last one: a read goes
 * no further than to the end of what descriptors were sent with (unix(7)). */
struct inbox {
    size_t start, end;
    struct passed passed;
    unsigned char data[LARGEST_ORDER];
};

/* The size of the order at `start`, with its length; 0 if that is not there yet. */
static size_t size_of_next(const struct inbox *inbox) {
    uint32_t length;
    if (inbox->end - inbox->start < LENGTH)
        return 0;
    memcpy(&length, inbox->data + inbox->start, LENGTH);
    return (size_t)LENGTH + be32toh(length);
}

/* Whether what has come is no order, nor ever will be: it is larger than the largest. */
static bool is_astray(const struct inbox *inbox) { return size_of_next(inbox) > LARGEST_ORDER; }

/* The next whole order, which stays where it is until more is received; NULL if there is none. */
static const unsigned char *next_order(struct inbox *inbox, size_t *size) {
    size_t whole = size_of_next(inbox);
    if (whole == 0 || inbox->end - inbox->start < whole)
        return NULL;
    const unsigned char *order = inbox->data + inbox->start + LENGTH;
    inbox->start += whole;
    *size = whole - LENGTH;
    return order;
}

/* Take what was passed with the order that next_order has returned last; false if it is not all there, which was closed
 * then. */
static bool take_passed_with_order(struct inbox *inbox, int *to, int count) {
    struct passed none = {.count = 0};
    return take_passed(inbox->start == inbox->end ? &inbox->passed : &none, to, count);
}

/* That order is obeyed: what it has not taken is for no other. */
static void finish_order(struct inbox *inbox) {
    if (inbox->start == inbox->end)
        close_passed(&inbox->passed);
}

/*
 * As recvmsg(2), when no whole order is left. Of an order of which a part has come only the rest is read, so that those
 * descriptors are not there too that were passed with the next.
 */
static ssize_t receive_orders(int channel, struct inbox *inbox) {
    if (is_astray(inbox)) {
        errno = EMSGSIZE;
        return -1;
    }
    inbox->end -= inbox->start;
    memmove(inbox->data, inbox->data + inbox->start, inbox->end);
    inbox->start = 0;
    size_t whole = size_of_next(inbox), until = sizeof inbox->data;
    if (inbox->end > 0)
        until = whole == 0 ? LENGTH : whole;
    ssize_t count = receive_with(channel, inbox->data + inbox->end, until - inbox->end, &inbox->passed);
    if (count > 0)
        inbox->end += (size_t)count;
    return count;
}

/* What an order says. */
struct order {
    int tag;
    long long number, attempt;
    bool again;
    int signal;
};

static void read_array(struct reader *reader, int least) {
    if (read_kind(reader, ARRAY).integer < least)
        reader->broken = true;
}

static void read_family(struct reader *reader) {
    struct item family = read_kind(reader, TEXT);
    if (family.integer != 4 || (memcmp(family.bytes, "ipv4", 4) != 0 && memcmp(family.bytes, "ipv6", 4) != 0 &&
                                memcmp(family.bytes, "unix", 4) != 0))
        reader->broken = true;
}

static void read_endpoints(struct reader *reader) {
    uint64_t owed_behind = owed_behind_next(reader);
    read_array(reader, 5);
    read_family(reader);
    for (int end = 0; end < 2; end++) {
        read_kind(reader, TEXT);
        read_integer(reader);
    }
    skip_to(reader, owed_behind);
}

static void read_credentials(struct reader *reader) {
    uint64_t owed_behind = owed_behind_next(reader);
    if (reader->at < reader->end && *reader->at == NIL) {
        skip(reader);
        return;
    }
    read_array(reader, 3);
    for (int field = 0; field < 3; field++)
        read_integer(reader);
    skip_to(reader, owed_behind);
}

/* Fields that are not there have their default, those that we do not know are passed over (as msgspec does). */
static void read_offer(struct reader *reader, struct order *order) {
    order->number = read_integer(reader);
    read_endpoints(reader);
    if (reader->owed > 0)
        read_credentials(reader);
    if (reader->owed > 0)
        order->attempt = read_integer(reader);
    if (reader->owed > 0)
        order->again = read_kind(reader, BOOLEAN).integer != 0;
}

static void read_delivery(struct reader *reader, struct order *order) {
    order->number = read_integer(reader);
    long long signal = read_integer(reader);
    if (signal < 1 || signal >= NSIG)
        reader->broken = true;
    else
        order->signal = (int)signal;
}

static void read_hire(struct reader *reader, struct order *order) {
    order->number = read_integer(reader);
    if (reader->owed > 0)
        read_kind(reader, BOOLEAN); /* whether it is to tell of what it takes, which ours never has to */
}

/* False if it is none of records.py. */
static bool read_order(const unsigned char *data, size_t size, struct order *order) {
    struct reader reader = reader_of(data, size);
    *order = (struct order){0};
    read_kind(&reader, ARRAY);
    long long tag = read_integer(&reader);
    order->tag = tag >= OFFER && tag <= HIRE ? (int)tag : 0;
    if (tag == OFFER)
        read_offer(&reader, order);
    else if (tag == DELIVER)
        read_delivery(&reader, order);
    else if (tag == HIRE)
        read_hire(&reader, order);
    skip_to(&reader, 0);
    return order->tag != 0 && is_read_to_the_end(&reader);
}

/* Reports that are to be sent. */
struct outbox {
    size_t size;
    int count;
    unsigned char data[REPORTS];
};

/* Whether a call failed for want of memory, which passes; then a moment has been waited for it. */
static bool was_shortage(int error) {
    if (error != ENOBUFS && error != ENOMEM)
        return false;
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    return true;
}

/* Send what there is; false if nobody is there to read it. */
static bool send_reports(int channel, struct outbox *outbox) {
    size_t sent = 0, size = outbox->size;
    if (outbox->count == 0)
        return true;
    outbox->data[4] = 0xdc; /* an array, its size in two bytes */
    outbox->data[5] = (unsigned char)(outbox->count >> 8);
    outbox->data[6] = (unsigned char)outbox->count;
    uint32_t length = htobe32((uint32_t)(size - LENGTH));
    memcpy(outbox->data, &length, LENGTH);
    outbox->count = 0;
    while (sent < size) {
        ssize_t count = send(channel, outbox->data + sent, size - sent, MSG_NOSIGNAL);
        if (count >= 0)
            sent += (size_t)count;
        else if (errno != EINTR && !was_shortage(errno))
            return false;
    }
    return true;
}

static bool has_room_for_report(const struct outbox *outbox) {
    return outbox->count == 0 || outbox->size + LARGEST_REPORT <= REPORTS;
}

static void put(struct outbox *outbox, unsigned char first, uint64_t number) {
    uint64_t ordered = htobe64(number);
    outbox->data[outbox->size++] = first;
    memcpy(outbox->data + outbox->size, &ordered, sizeof ordered);
    outbox->size += sizeof ordered;
}

static void put_integer(struct outbox *outbox, long long number) { put(outbox, 0xd3, (uint64_t)number); }

static void put_real(struct outbox *outbox, double real) {
    uint64_t bits;
    memcpy(&bits, &real, sizeof bits);
    put(outbox, 0xcb, bits);
}

static void put_nothing(struct outbox *outbox) { outbox->data[outbox->size++] = NIL; }

static void put_text(struct outbox *outbox, const char *text) {
    size_t size = strlen(text); /* below 32 */
    outbox->data[outbox->size++] = (unsigned char)(0xa0 | size);
    memcpy(outbox->data + outbox->size, text, size);
    outbox->size += size;
}

static void begin_report(struct outbox *outbox, int tag, int fields) {
    if (outbox->count++ == 0)
        outbox->size = LENGTH + 3;
    outbox->data[outbox->size++] = (unsigned char)(0x90 | (fields + 1));
    outbox->data[outbox->size++] = (unsigned char)tag;
}

/* A worker's; it has no sources to tell of. */
static void report_ready(struct outbox *outbox, int pid) {
    begin_report(outbox, READY, 2);
    outbox->data[outbox->size++] = 0x90; /* an array without elements */
    put_integer(outbox, pid);
}

static void report_taken(struct outbox *outbox, long long number, int pid, double seconds) {
    begin_report(outbox, TAKEN, 3);
    put_integer(outbox, number);
    put_integer(outbox, pid);
    put_real(outbox, seconds);
}

static void report_busy(struct outbox *outbox, long long number, int error, const char *call, long long attempt) {
    begin_report(outbox, BUSY, 4);
    put_integer(outbox, number);
    put_integer(outbox, error);
    put_text(outbox, call);
    put_integer(outbox, attempt);
}

/* Its peak memory too, unless that is 0: not known. */
static void report_ended(struct outbox *outbox, long long number, int status, double cpu_seconds, long peak_kb) {
    begin_report(outbox, ENDED, 4);
    put_integer(outbox, number);
    put_integer(outbox, status);
    put_real(outbox, cpu_seconds);
    if (peak_kb > 0)
        put_integer(outbox, peak_kb);
    else
        put_nothing(outbox);
}

static void report_leaving(struct outbox *outbox) { begin_report(outbox, LEAVING, 0); }

#endif
