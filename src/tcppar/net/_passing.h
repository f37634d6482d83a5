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

/* Room for a few descriptors, though one is expected: what does not fit would be lost silently. */
enum { MOST_PASSED = 8 };

/* SCM_MAX_FD of the kernel (unix(7)). */
enum { MOST_IN_A_MESSAGE = 253 };

/* Descriptors that have come; the first one belongs to the next frame that has one. */
struct passed {
    int descriptors[MOST_PASSED], count;
};

/* The first one; -1 if there is none. */
static inline int take_passed(struct passed *passed) {
    if (passed->count == 0)
        return -1;
    int first = passed->descriptors[0];
    memmove(passed->descriptors, passed->descriptors + 1, (size_t)--passed->count * sizeof first);
    return first;
}

static inline void close_passed(struct passed *passed) {
    while (passed->count > 0)
        close(passed->descriptors[--passed->count]);
}

/* As sendmsg(2); `descriptor` goes along unless it is negative. */
static inline ssize_t send_with(int channel, struct iovec *parts, size_t count, int descriptor, int flags) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof descriptor)];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof descriptor), .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    control.header.cmsg_level = SOL_SOCKET;
    if (descriptor >= 0) {
        memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
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

/* As recvmsg(2), with descriptors closed on exec. Those for which this process has no number free are lost. */
static inline ssize_t receive_with(int channel, void *to, size_t size, struct passed *passed) {
    int descriptor;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MOST_PASSED * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = to, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t count = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
    if (count < 0)
        return count;
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
    struct iovec part = {.iov_base = to, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int descriptor;
    ssize_t count = recvmsg(channel, &message, flags | MSG_CMSG_CLOEXEC);
    if (count < 0)
        return count;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part != NULL; part = CMSG_NXTHDR(&message, part))
        for (size_t i = 0; next_passed(part, i, &descriptor); i++)
            close_at_once(descriptor);
    return count;
}

#endif
