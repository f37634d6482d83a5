/*
 * Load: CLIENTS processes, together TOTAL connections to 127.0.0.1:PORT, one after the other in each.
 * A connection: connect, send 64 bytes, get the same 64 bytes back, close. Every byte is compared.
 *
 *     load PORT CLIENTS TOTAL [SECONDS]      with SECONDS: go on until TOTAL are done and SECONDS are over
 *     load PORT hold N                       open N, exchange 64 bytes on each, say "held N", keep them until
 *                                            standard input ends
 *
 * Prints one line of JSON: connections done, failures by the call that failed, seconds, the rate, and the slowest and
 * the median connection in milliseconds (the median of the first MOST_TIMES). Exit code 0 if nothing failed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64, MOST_CLIENTS = 1024, MOST_TIMES = 1 << 22 };
enum outcome { OK, CONNECT, SEND, RECEIVE, CUT, DIFFERENT, OUTCOMES };

struct tally {
    long count[OUTCOMES];
    long late;
    double slowest;
};

/* How long each connection took, in seconds, whichever client made it. */
struct times {
    long count;
    float took[MOST_TIMES];
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void note(struct times *times, double took) {
    long place = __atomic_fetch_add(&times->count, 1, __ATOMIC_RELAXED);
    if (place < MOST_TIMES)
        times->took[place] = (float)took;
}

static int by_size(const void *a, const void *b) {
    float first = *(const float *)a, second = *(const float *)b;
    return (first > second) - (first < second);
}

static double median(struct times *times) {
    size_t count = (size_t)(times->count < MOST_TIMES ? times->count : MOST_TIMES);
    if (count == 0)
        return 0;
    qsort(times->took, count, sizeof *times->took, by_size);
    return ((double)times->took[(count - 1) / 2] + (double)times->took[count / 2]) / 2;
}

/* Touched page by page as it is written: what is not used costs nothing. */
static void *shared(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("load: mmap");
        exit(111);
    }
    return memory;
}

static enum outcome exchange(int s, int seed) {
    char sent[SIZE], got[SIZE];
    for (int i = 0; i < SIZE; i++)
        sent[i] = (char)(seed + i * 7);
    if (send(s, sent, SIZE, MSG_NOSIGNAL) != SIZE)
        return SEND;
    for (int n = 0; n < SIZE;) {
        ssize_t r = recv(s, got + n, (size_t)(SIZE - n), 0);
        if (r < 0)
            return RECEIVE;
        if (r == 0)
            return CUT;
        n += (int)r;
    }
    return memcmp(sent, got, SIZE) ? DIFFERENT : OK;
}

static int open_one(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval limit = {60, 0};
    /* Ended by a reset, so that thousands of closed connections do not use up the ports. */
    struct linger reset = {1, 0};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0)
        return -1;
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(s, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(s, (struct sockaddr *)&a, sizeof a)) {
        close(s);
        return -1;
    }
    return s;
}

static void client(int port, long connections, double until, struct tally *t, struct times *times) {
    for (long i = 0; i < connections || now() < until; i++) {
        double began = now();
        int s = open_one(port);
        enum outcome o = s < 0 ? CONNECT : exchange(s, (int)i);
        if (s >= 0)
            close(s);
        double took = now() - began;
        note(times, took);
        t->count[o]++;
        t->late += took > 1.0;
        if (took > t->slowest)
            t->slowest = took;
    }
}

static int hold(int port, int wanted) {
    struct rlimit files = {(rlim_t)wanted + 64, (rlim_t)wanted + 64};
    setrlimit(RLIMIT_NOFILE, &files);
    int held = 0;
    for (; held < wanted; held++) {
        int s = open_one(port);
        if (s < 0 || exchange(s, held) != OK)
            break;
    }
    printf("held %d\n", held);
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    return held != wanted;
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[2], "hold"))
        return hold(atoi(argv[1]), atoi(argv[3]));
    if (argc < 4) {
        fprintf(stderr, "usage: load PORT CLIENTS TOTAL [SECONDS] | load PORT hold N\n");
        return 100;
    }
    int port = atoi(argv[1]), clients = atoi(argv[2]);
    long total = atol(argv[3]);
    double seconds = argc > 4 ? atof(argv[4]) : 0;
    if (clients < 1 || clients > MOST_CLIENTS)
        return 100;
    struct tally *tallies = shared(sizeof(struct tally) * MOST_CLIENTS);
    struct times *times = shared(sizeof *times);
    double began = now();
    for (int i = 0; i < clients; i++)
        if (fork() == 0) {
            client(port, total / clients + (i < total % clients), seconds > 0 ? began + seconds : 0, &tallies[i],
                   times);
            _exit(0);
        }
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    double took = now() - began;
    struct tally sum = {{0}, 0, 0};
    long done = 0;
    for (int i = 0; i < clients; i++) {
        for (int o = 0; o < OUTCOMES; o++) {
            sum.count[o] += tallies[i].count[o];
            done += tallies[i].count[o];
        }
        sum.late += tallies[i].late;
        if (tallies[i].slowest > sum.slowest)
            sum.slowest = tallies[i].slowest;
    }
    printf("{\"done\": %ld, \"failed\": %ld, \"connect\": %ld, \"send\": %ld, \"receive\": %ld, \"cut\": %ld, "
           "\"different\": %ld, \"late\": %ld, \"seconds\": %.3f, \"rate\": %.1f, \"slowest_ms\": %.1f, "
           "\"median_ms\": %.4f}\n",
           done, done - sum.count[OK], sum.count[CONNECT], sum.count[SEND], sum.count[RECEIVE], sum.count[CUT],
           sum.count[DIFFERENT], sum.late, took, (double)done / took, sum.slowest * 1000,
           median(times) * 1000);
    return done != sum.count[OK];
}
