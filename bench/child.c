/* The smallest useful child: answers once what it reads once, and goes on until the client has left. */
#include <unistd.h>

int main(void) {
    char buffer[64];
    ssize_t n;
    while ((n = read(0, buffer, sizeof buffer)) > 0)
        if (write(1, buffer, (size_t)n) != n)
            return 1;
    return 0;
}
