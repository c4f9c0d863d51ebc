"""A child process whose every way out of the machine is written down and closed.

A shim in C, preloaded, stands before the C library: it also sees what native code asks for, which
a patched `socket` module would not.
"""

import shutil
import subprocess

SHIM = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *call, const char *where) {
    const char *path = getenv("NETWORK_LOG");
    char line[512];
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
    if (file < 0) return;
    int size = snprintf(line, sizeof line, "%s %s\n", call, where);
    if (write(file, line, size) < 0) abort();
    close(file);
}

/* 1 where the address is not of this machine; then it is written down. */
static int leaves(const char *call, const struct sockaddr *address) {
    char text[64] = "?";
    if (!address) return 0;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)address;
        if (ntohl(v4->sin_addr.s_addr) >> 24 == 127) return 0;
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)address;
        if (IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr)) return 0;
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    } else return 0;
    note(call, text);
    errno = ENETUNREACH;
    return 1;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int connect(int s, const struct sockaddr *a, socklen_t n) {
    REAL(connect);
    return leaves("connect", a) ? -1 : real(s, a, n);
}

ssize_t sendto(int s, const void *b, size_t n, int f, const struct sockaddr *a, socklen_t m) {
    REAL(sendto);
    return leaves("sendto", a) ? -1 : real(s, b, n, f, a, m);
}

ssize_t sendmsg(int s, const struct msghdr *m, int f) {
    REAL(sendmsg);
    return leaves("sendmsg", m->msg_name) ? -1 : real(s, m, f);
}

static int is_here(const char *name) {
    return !name || !*name || !strcmp(name, "localhost") || !strncmp(name, "127.", 4)
        || !strcmp(name, "::1") || !strcmp(name, "0.0.0.0") || !strcmp(name, "::");
}

int getaddrinfo(const char *n, const char *s, const struct addrinfo *h, struct addrinfo **r) {
    REAL(getaddrinfo);
    if (is_here(n)) return real(n, s, h, r);
    note("getaddrinfo", n);
    return EAI_NONAME;
}

struct hostent *gethostbyname(const char *name) {
    REAL(gethostbyname);
    if (is_here(name)) return real(name);
    note("gethostbyname", name);
    return NULL;
}
"""


def build_shim(folder):
    """The shim's path, or None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, library = folder / "network_log.c", folder / "network_log.so"
    source.write_text(SHIM)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def read_log(path):
    """Each call that would have left the machine, once."""
    return sorted(set(path.read_text().splitlines())) if path.exists() else []
