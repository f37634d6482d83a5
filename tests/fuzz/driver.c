/*
 * Runs a target of libFuzzer's interface over mutated inputs, guided by coverage: an input that reaches something new is
 * kept, and mutated further. For gcc, which has the sanitizers and not libFuzzer. What the target is compiled with calls
 * __sanitizer_cov_trace_pc at each branch (-fsanitize-coverage=trace-pc); this file is compiled without.
 *
 *     driver SECONDS SEED FINDING INPUT...
 *
 * Prints "executions seconds edges kept". An input that ends it by a sanitizer or by abort, or takes ten seconds, is
 * written to FINDING. With 0 seconds the inputs are run as they are, and no others.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LARGEST = 1 << 14, MOST_KEPT = 1 << 14, MAP_SIZE = 1 << 16, MOST_MUTATIONS = 6, PATIENCE = 10, BATCH = 256 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_set_death_callback(void (*callback)(void));
void __sanitizer_cov_trace_pc(void);

struct input {
    size_t size;
    uint8_t *data;
};

static struct input kept[MOST_KEPT];
static size_t kept_count;
static uint8_t current[LARGEST];
static size_t current_size;
static const char *finding;
static uint8_t seen[MAP_SIZE];
static uintptr_t last_edge;
static unsigned edges, new_edges;
static uint64_t state;

void __sanitizer_cov_trace_pc(void) {
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    uintptr_t edge = (here ^ last_edge) % MAP_SIZE;
    last_edge = here >> 1;
    if (!seen[edge]) {
        seen[edge] = 1;
        new_edges++;
    }
}

static uint64_t draw(uint64_t below) { /* xorshift64 */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static void write_finding(void) {
    int file = open(finding, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || write(file, current, current_size) != (ssize_t)current_size)
        perror(finding);
}

static void on_signal(int number) {
    write_finding();
    signal(number, SIG_DFL);
    raise(number);
}

static void keep(const uint8_t *data, size_t size) {
    if (kept_count == MOST_KEPT)
        return;
    uint8_t *copy = malloc(size + 1);
    memcpy(copy, data, size);
    kept[kept_count++] = (struct input){.size = size, .data = copy};
}

/* The target gets memory of the very size, so that the sanitizer sees each byte that is read beyond. */
static void execute(void) {
    uint8_t *exact = malloc(current_size);
    memcpy(exact, current, current_size);
    last_edge = new_edges = 0;
    LLVMFuzzerTestOneInput(exact, current_size);
    free(exact);
    edges += new_edges;
    if (new_edges > 0)
        keep(current, current_size);
}

static void insert(size_t at, const uint8_t *data, size_t size) {
    if (size > LARGEST - current_size)
        size = LARGEST - current_size;
    memmove(current + at + size, current + at, current_size - at);
    memcpy(current + at, data, size);
    current_size += size;
}

static void erase(size_t at, size_t size) {
    memmove(current + at, current + at + size, current_size - at - size);
    current_size -= size;
}

static void mutate_once(void) {
    static const uint8_t telling[] = {0,    1,    0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc3, 0xc6, 0xca,
                                      0xcb, 0xcc, 0xcf, 0xd3, 0xd4, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xff};
    size_t at = draw(current_size + 1), left = current_size - at;
    uint8_t bytes[8];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = draw(2) ? telling[draw(sizeof telling)] : (uint8_t)draw(256);
    switch (draw(7)) {
    case 0:
        insert(at, bytes, 1 + draw(sizeof bytes));
        break;
    case 1:
        erase(at, draw(left + 1));
        break;
    case 2:
        erase(at, left < 4 ? left : draw(4));
        break;
    case 3: { /* a piece of another one */
        const struct input *other = &kept[draw(kept_count)];
        size_t from = draw(other->size + 1);
        insert(at, other->data + from, draw(other->size - from + 1));
        break;
    }
    case 4:
        if (left > 0)
            current[at] ^= (uint8_t)(1u << draw(8));
        break;
    default: {
        size_t size = 1 + draw(sizeof bytes);
        memcpy(current + at, bytes, left < size ? left : size);
    }
    }
}

static void load(const char *path) {
    int file = open(path, O_RDONLY);
    ssize_t size = file < 0 ? -1 : read(file, current, sizeof current);
    if (size < 0) {
        perror(path);
        exit(2);
    }
    close(file);
    current_size = (size_t)size;
    execute();
    keep(current, current_size);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

int main(int count, char **words) {
    if (count < 4)
        return 2;
    double started = now(), until = started + atof(words[1]);
    unsigned long executions = 0;
    state = strtoull(words[2], NULL, 10) * 2654435761u + 88172645463325252u;
    finding = words[3];
    __sanitizer_set_death_callback(write_finding);
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    alarm(PATIENCE);
    keep(current, 0);
    for (int i = 4; i < count; i++, executions++)
        load(words[i]);
    while (now() < until) {
        alarm(PATIENCE);
        for (int i = 0; i < BATCH; i++, executions++) {
            const struct input *parent = &kept[draw(kept_count)];
            memcpy(current, parent->data, parent->size);
            current_size = parent->size;
            for (uint64_t times = 1 + draw(MOST_MUTATIONS); times > 0; times--)
                mutate_once();
            execute();
        }
    }
    printf("%lu %.1f %u %zu\n", executions, now() - started, edges, kept_count);
    return 0;
}
