/* A child that leaves a process behind which poses as the server: by its words, read from /proc/PID/cmdline, and by its
   name, which says one moment that an upgrade was done and nothing the next. The server's PID is read from stdin. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static void pass_over(int number) { (void)number; }

static void pose(void) {
    signal(SIGUSR2, pass_over);
    for (int turn = 0;; turn = !turn) {
        prctl(PR_SET_NAME, turn ? "tcppar serve+77" : "tcppar serve");
        usleep(15000);
    }
}

int main(void) {
    static char words[65536], *list[256];
    char path[64];
    int pid, file, count = 0;

    if (getenv("POSING")) pose();
    if (scanf("%d", &pid) != 1) return 1;
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    if ((file = open(path, O_RDONLY)) < 0) return 1;
    ssize_t size = read(file, words, sizeof words - 1);
    for (char *word = words; word < words + size && count < 255; word += strlen(word) + 1) list[count++] = word;
    setenv("POSING", "1", 1);
    puts("posing");
    fflush(stdout);
    if (fork()) return 0;
    setsid();
    close(0);
    close(1);
    execv("/proc/self/exe", list);
    return 1;
}
