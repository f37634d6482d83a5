/*
 * Orders from the supervisor and reports to it, as net/channel.py frames them and records.py describes them.
 */
#ifndef TCPPAR_ORDERS_H
#define TCPPAR_ORDERS_H

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "../net/_passing.h"

/* The tags of records.py. */
enum { OFFER = 1, DELIVER = 2, RETIRE = 3, HIRE = 4 };
enum { READY = 1, TAKEN = 3, BUSY = 4, ENDED = 6, LEAVING = 7 };

enum { LENGTH = 4, LARGEST_ORDER = 8192, REPORTS = 4096, LARGEST_REPORT = 64 };

/* Orders that have come, of which those before `start` are obeyed. */
struct inbox {
    size_t start, end;
    struct passed passed;
    unsigned char data[LARGEST_ORDER];
};

/* The next whole order, which stays where it is until more is received; NULL if there is none. */
static const unsigned char *next_order(struct inbox *inbox, size_t *size) {
    uint32_t length;
    if (inbox->end - inbox->start < LENGTH)
        return NULL;
    memcpy(&length, inbox->data + inbox->start, LENGTH);
    length = be32toh(length);
    if (inbox->end - inbox->start - LENGTH < length)
        return NULL;
    const unsigned char *order = inbox->data + inbox->start + LENGTH;
    inbox->start += LENGTH + length;
    *size = length;
    return order;
}

/* As recvmsg(2). Nothing is read where there is no room, which only what is no order leaves. */
static ssize_t receive_orders(int channel, struct inbox *inbox) {
    memmove(inbox->data, inbox->data + inbox->start, inbox->end -= inbox->start);
    inbox->start = 0;
    ssize_t count = receive_with(channel, inbox->data + inbox->end, sizeof inbox->data - inbox->end, &inbox->passed);
    if (count > 0)
        inbox->end += (size_t)count;
    return count;
}

/* Reports that are to be sent. */
struct outbox {
    size_t size;
    int count;
    unsigned char data[REPORTS];
};

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
        else if (errno != EINTR)
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

static void put_nothing(struct outbox *outbox) { outbox->data[outbox->size++] = 0xc0; }

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
