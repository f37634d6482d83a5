/*
 * Orders as they come (_orders.h), in pieces and with descriptors: what is handed out are the frames that were sent, in
 * their order; a descriptor goes to the frame that it came with, or is closed; and what is no frame ends the channel.
 *
 * An input is a list of pieces: a byte that tells how many descriptors go with it (its two highest bits), and whether
 * all that is there is read after it (the next one), the piece's size in the lowest five, in units that depend on the
 * first byte of the input; then the piece.
 */
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../src/tcppar/spawner/_orders.h"
#include "must.h"

enum { LARGEST_STREAM = 1 << 15, MOST_PIECES = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct piece {
    size_t start, end;
    int descriptors;
    ino_t file;
};

static uint8_t stream[LARGEST_STREAM];
static size_t sent, obeyed;
static struct piece pieces[MOST_PIECES];
static int piece_count, ends[2];
static bool over;
static struct inbox inbox;

/* One after the other, so that what is left open shows in the number of the next. */
static int lowest_free(void) {
    int descriptor = dup(0);
    must(descriptor >= 0);
    close(descriptor);
    return descriptor;
}

static ino_t file_of(int descriptor) {
    struct stat status;
    must(fstat(descriptor, &status) == 0);
    return status.st_ino;
}

/* The frame is the next one of those that were sent, and what comes with it came with a piece of it. */
static void check(const unsigned char *order, size_t size) {
    uint32_t length;
    must(obeyed + LENGTH + size <= sent);
    memcpy(&length, stream + obeyed, LENGTH);
    must(be32toh(length) == size && memcmp(order, stream + obeyed + LENGTH, size) == 0);
    size_t start = obeyed, end = obeyed += LENGTH + size;
    int descriptor;
    if (size % 2) /* one that takes what comes, the others do not */
        if (take_passed_with_order(&inbox, &descriptor, 1)) {
            bool its = false;
            for (int i = 0; i < piece_count; i++)
                its |= pieces[i].file == file_of(descriptor) && pieces[i].start < end && pieces[i].end > start;
            must(its);
            close(descriptor);
        }
}

/* As a spawner does, when there is something to read. */
static void take_orders(void) {
    const unsigned char *order;
    size_t size;
    if (receive_orders(ends[1], &inbox) <= 0) {
        over = true;
        return;
    }
    must(inbox.start <= inbox.end && inbox.end <= sizeof inbox.data);
    while ((order = next_order(&inbox, &size)) != NULL) {
        struct order read;
        read_order(order, size, &read);
        check(order, size);
        finish_order(&inbox);
    }
    over = is_astray(&inbox);
}

/* Whether the next frame is larger than any order. */
static bool is_hopeless(void) {
    uint32_t length;
    if (sent - obeyed < LENGTH)
        return false;
    memcpy(&length, stream + obeyed, LENGTH);
    return be32toh(length) > LARGEST_ORDER - LENGTH;
}

/* Such a one ends the channel at once, and nothing else does. */
static void read_all(void) {
    int unread = 0;
    while (!over && ioctl(ends[1], FIONREAD, &unread) == 0 && unread > 0)
        take_orders();
    must(over == is_hopeless());
}

static void send_piece(struct piece *piece, const uint8_t *data, size_t size) {
    int pipe_ends[2];
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(3 * sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN((size_t)piece->descriptors * sizeof(int)), .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    must(pipe(pipe_ends) == 0);
    piece->file = file_of(pipe_ends[0]);
    control.header.cmsg_level = SOL_SOCKET;
    for (int i = 0; i < piece->descriptors; i++)
        memcpy(CMSG_DATA(&control.header) + (size_t)i * sizeof(int), &pipe_ends[0], sizeof(int));
    if (piece->descriptors > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE((size_t)piece->descriptors * sizeof(int));
    }
    must(sendmsg(ends[0], &message, MSG_NOSIGNAL) == (ssize_t)size);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    memcpy(stream + sent, data, size);
    piece->start = sent;
    piece->end = sent += size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int free_before = lowest_free();
    const uint8_t *end = data + size;
    size_t unit = size > 0 && data[0] & 1 ? 64 : 1;
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    inbox.start = inbox.end = sent = obeyed = 0;
    inbox.passed.count = piece_count = 0;
    over = false;
    for (data += size > 0; data < end && !over && piece_count < MOST_PIECES;) {
        uint8_t head = *data++;
        size_t length = (1 + (head & 31u)) * unit, left = (size_t)(end - data);
        if (length > left)
            length = left;
        if (length == 0 || sent + length > LARGEST_STREAM)
            break;
        pieces[piece_count].descriptors = head >> 6;
        send_piece(&pieces[piece_count++], data, length);
        data += length;
        if (head & 32)
            read_all();
    }
    read_all();
    close(ends[0]);
    while (!over)
        take_orders();
    close_passed(&inbox.passed);
    close(ends[1]);
    must(lowest_free() == free_before);
    return 0;
}
