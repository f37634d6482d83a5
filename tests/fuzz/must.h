/* What a target checks: told, and then ended by abort, which the driver takes as a finding. */
#ifndef TCPPAR_MUST_H
#define TCPPAR_MUST_H

#include <stdio.h>
#include <stdlib.h>

#define must(so) ((so) ? (void)0 : not_so(__FILE__, __LINE__, #so))

static inline void not_so(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

#endif
