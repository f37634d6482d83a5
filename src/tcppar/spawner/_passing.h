/*
 * Orders with descriptors over a Unix socket (unix(7), SCM_RIGHTS), as net/channel.py sends and receives them.
 */
#ifndef TCPPAR_PASSING_H
#define TCPPAR_PASSING_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

enum { MOST_PASSED = 8 };

/* Descriptors that have come; the first one belongs to the next frame that has one. */
struct passed {
    int descriptors[MOST_PASSED], count;
};

/* The first one; -1 if there is none. */
static int take_passed(struct passed *passed) {
    if (passed->count == 0)
        return -1;
    int first = passed->descriptors[0];
    memmove(passed->descriptors, passed->descriptors + 1, (size_t)--passed->count * sizeof first);
    return first;
}

/* Send an order with its descriptor; false if nobody is there to take it. */
static bool pass(int channel, const unsigned char *order, size_t size, int descriptor) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof descriptor)];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof descriptor), .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {.iov_base = (void *)order, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.header.cmsg_level = SOL_SOCKET;
    memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
    return sendmsg(channel, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

/* Receive what is there, with descriptors closed on exec. Those for which this process has no number free are lost. */
static ssize_t receive(int channel, void *to, size_t size, struct passed *passed) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MOST_PASSED * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = to, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t count;
    while ((count = recvmsg(channel, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        ;
    if (count < 0)
        return count;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part != NULL; part = CMSG_NXTHDR(&message, part))
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS)
            for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= part->cmsg_len; i++) {
                int descriptor;
                memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
                if (passed->count < MOST_PASSED)
                    passed->descriptors[passed->count++] = descriptor;
                else
                    close(descriptor);
            }
    return count;
}

#endif
