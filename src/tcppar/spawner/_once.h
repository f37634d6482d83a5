/*
 * What one of many processes has said, and the others need not: a page that all of them share, of which each place is
 * taken once. Whoever wants to can fill it, and then nothing more is said; nothing else depends on it.
 */
#ifndef TCPPAR_ONCE_H
#define TCPPAR_ONCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

enum { MOST_SAID = 64 };

static _Atomic uint64_t *said;

/* Before the first fork. Without the memory, nobody is the first to say anything. */
static void share_what_is_said(void) {
    void *page = mmap(NULL, MOST_SAID * sizeof *said, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    said = page == MAP_FAILED ? NULL : page;
}

/* Whether nobody has said this; and now it is said. FNV-1a tells texts apart. */
static bool is_first_to_say(const char *text) {
    uint64_t hash = 14695981039346656037u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    for (size_t i = 0; said != NULL && i < MOST_SAID; i++) {
        uint64_t found = 0; /* nothing, which no text of ours has */
        if (atomic_compare_exchange_strong(&said[i], &found, hash))
            return true;
        if (found == hash)
            return false;
    }
    return false;
}

#endif
