/*
 * Bytes with descriptors over a Unix socket (unix(7), SCM_RIGHTS), as net/channel.py sends and receives them.
 */
#ifndef TCPPAR_PASSING_H
#define TCPPAR_PASSING_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Room for some descriptors, though two at the most are expected: what does not fit would be lost silently. */
enum { MOST_PASSED = 8 };

/* SCM_MAX_FD of the kernel (unix(7)). */
enum { MOST_IN_A_MESSAGE = 253 };

/* Descriptors that go, or that have come. */
struct passed {
    int descriptors[MOST_PASSED], count;
};

static inline void close_passed(struct passed *passed) {
    while (passed->count > 0)
        close(passed->descriptors[--passed->count]);
}

/* Take the first `count`, and close what came beside them; false, and all are closed, if fewer have come. */
static inline bool take_passed(struct passed *passed, int *to, int count) {
    bool complete = passed->count >= count;
    if (complete) {
        memcpy(to, passed->descriptors, (size_t)count * sizeof *to);
        passed->count -= count;
        memmove(passed->descriptors, passed->descriptors + count, (size_t)passed->count * sizeof *to);
    }
    close_passed(passed);
    return complete;
}

/* As sendmsg(2); what is passed goes along, in its order. */
static inline ssize_t send_with(int channel, struct iovec *parts, size_t count, const struct passed *passed, int flags) {
    size_t size = (size_t)passed->count * sizeof(int);
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MOST_PASSED * sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    if (size > 0) {
        control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(size), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), passed->descriptors, size);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(size);
    }
    return sendmsg(channel, &message, flags | MSG_NOSIGNAL);
}

/* The next descriptor of a control message; false if there is none. */
static inline bool next_passed(struct cmsghdr *part, size_t index, int *descriptor) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS ||
        CMSG_LEN((index + 1) * sizeof(int)) > part->cmsg_len)
        return false;
    memcpy(descriptor, CMSG_DATA(part) + index * sizeof(int), sizeof(int));
    return true;
}

/* As recvmsg(2), into one piece of memory; descriptors are closed on exec. After an error there are none. */
static inline ssize_t receive_message(int channel, void *to, size_t size, struct msghdr *message, int flags) {
    struct iovec part = {.iov_base = to, .iov_len = size};
    message->msg_iov = &part;
    message->msg_iovlen = 1;
    ssize_t count = recvmsg(channel, message, flags | MSG_CMSG_CLOEXEC);
    message->msg_iov = NULL;
    if (count < 0)
        message->msg_controllen = 0;
    return count;
}

/* As recvmsg(2), with descriptors closed on exec. Those for which this process has no number free are lost. */
static inline ssize_t receive_with(int channel, void *to, size_t size, struct passed *passed) {
    int descriptor;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MOST_PASSED * sizeof(int))];
    } control;
    struct msghdr message = {.msg_control = &control, .msg_controllen = sizeof control};
    ssize_t count = receive_message(channel, to, size, &message, 0);
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part != NULL; part = CMSG_NXTHDR(&message, part))
        for (size_t i = 0; next_passed(part, i, &descriptor); i++)
            if (passed->count < MOST_PASSED)
                passed->descriptors[passed->count++] = descriptor;
            else
                close(descriptor);
    return count;
}

/* Close what may be the last descriptor of a socket that somebody else has made to linger, without waiting for it. */
static inline void close_at_once(int descriptor) {
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &(struct linger){0}, sizeof(struct linger));
    close(descriptor);
}

/*
 * As recv(2), from somebody who has no descriptors to send. recv itself would close those that come along: if one is the
 * last of a connection that lingers, for as long as its sender likes.
 */
static inline ssize_t receive_without(int channel, void *to, size_t size, int flags) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MOST_IN_A_MESSAGE * sizeof(int))];
    } control;
    struct msghdr message = {.msg_control = &control, .msg_controllen = sizeof control};
    int descriptor;
    ssize_t count = receive_message(channel, to, size, &message, flags);
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part != NULL; part = CMSG_NXTHDR(&message, part))
        for (size_t i = 0; next_passed(part, i, &descriptor); i++)
            close_at_once(descriptor);
    return count;
}

#endif
