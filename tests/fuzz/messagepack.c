/*
 * MessagePack as spawners read it (_messagepack.h), and orders in it (_orders.h): whatever comes, no more is read than is
 * there, and it ends.
 */
#include <stdint.h>

#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../src/tcppar/spawner/_orders.h"
#include "must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* How many items there are, if it is MessagePack. */
static size_t count_items(struct reader *reader) {
    size_t count = 0;
    while (reader->owed > 0 && read_item(reader).kind != BROKEN)
        count++;
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct reader items = reader_of(data, size), skipped = items;
    size_t count = count_items(&items);
    must(count <= size);
    must(items.at <= items.end);

    skip(&skipped);
    must(skipped.broken == items.broken && skipped.at == items.at);

    struct order order;
    if (read_order(data, size, &order)) {
        must(is_read_to_the_end(&items));
        must(order.tag >= OFFER && order.tag <= HIRE);
        must(order.tag != DELIVER || (order.signal >= 1 && order.signal < NSIG));
    }
    return 0;
}
