"""System calls that change files, counted in a preloaded C shim: the n-th kills, or finds no space.

`preload` starts a driver with the shim; in it, `arm` is called in a fork of its own for each fault.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

KILL, NO_SPACE = 0, 28

SHIM = r"""
#define _GNU_SOURCE
#include <sys/sendfile.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int armed, fault, seen;

void arm(int nth, int error) { seen = 0; armed = nth; fault = error; }
int count(void) { return seen; }

/* Before a call that changes something: 1 where it has to fail, no return where it kills. */
static int strike(void) {
    if (!armed || ++seen != armed) return 0;
    if (!fault) kill(getpid(), SIGKILL);
    errno = fault;
    return 1;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define WRAP(type, name, parameters, arguments) \
    type name parameters { REAL(name); return strike() ? (type)-1 : real arguments; }

/* What takes something away needs no space. */
#define WRAP_REMOVAL(type, name, parameters, arguments) \
    type name parameters { REAL(name); return !fault && strike() ? (type)-1 : real arguments; }

#define CHANGES(flags) ((flags) & (O_CREAT | O_TRUNC))
#define MODE(flags) va_list rest; va_start(rest, flags); \
    int mode = CHANGES(flags) ? va_arg(rest, int) : 0; va_end(rest)

int open(const char *p, int f, ...) {
    REAL(open); MODE(f);
    return CHANGES(f) && strike() ? -1 : real(p, f, mode);
}
int open64(const char *p, int f, ...) {
    REAL(open64); MODE(f);
    return CHANGES(f) && strike() ? -1 : real(p, f, mode);
}
WRAP(ssize_t, write, (int d, const void *b, size_t n), (d, b, n))
WRAP(int, rename, (const char *a, const char *b), (a, b))
WRAP(int, renameat2, (int c, const char *a, int d, const char *b, unsigned f), (c, a, d, b, f))
WRAP(int, link, (const char *a, const char *b), (a, b))
WRAP(int, linkat, (int c, const char *a, int d, const char *b, int f), (c, a, d, b, f))
WRAP(int, symlink, (const char *a, const char *b), (a, b))
WRAP_REMOVAL(int, unlink, (const char *a), (a))
WRAP_REMOVAL(int, unlinkat, (int d, const char *a, int f), (d, a, f))
WRAP(int, mkdir, (const char *a, mode_t m), (a, m))
WRAP_REMOVAL(int, rmdir, (const char *a), (a))
WRAP(int, chmod, (const char *a, mode_t m), (a, m))
WRAP_REMOVAL(int, ftruncate, (int d, off_t n), (d, n))
WRAP(int, fsync, (int d), (d))
WRAP(ssize_t, sendfile, (int o, int i, off_t *p, size_t n), (o, i, p, n))
WRAP(ssize_t, copy_file_range,
     (int i, off64_t *p, int o, off64_t *q, size_t n, unsigned f), (i, p, o, q, n, f))
"""


def build_shim(folder):
    """The shim's path, or None where there is no C compiler or no Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    source, library = folder / "fault_injection.c", folder / "fault_injection.so"
    source.write_text(SHIM)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def run_driver(script, shim, *arguments):
    """What a driver prints that runs with the shim in it."""
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "LD_PRELOAD": str(shim), "FAULT_SHIM": str(shim)}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def strike_everywhere(act, check, fault):
    """Do `act` in forks, each struck at a later call than the one before, until one is not struck.

    `check` is called after each, with what `act` raised in it, as text. Returns how many were.
    """
    shim = ctypes.CDLL(os.environ["FAULT_SHIM"])
    for nth in range(1, 10_000):
        struck, outcome = _strike(shim, act, nth, fault)
        check(nth, outcome)
        if not struck:
            return nth - 1
    raise AssertionError("it never ends")


def _strike(shim, act, nth, fault):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        text = ""
        shim.arm(nth, fault)
        try:
            act()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        struck = shim.count() >= nth
        shim.arm(0, 0)
        os.write(writing, f"{int(struck)}{text}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    return killed or answer[:1] == "1", "killed" if killed else answer[1:]
