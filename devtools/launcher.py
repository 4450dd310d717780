"""Runs one program that ends when its parent does; started by path, so it needs only the standard library.

    python -I -S launcher.py PARENT SIGNAL [UID GID REACH] -- program argument…

1. As root, step down to UID and GID (PostgreSQL refuses to run as root). REACH=1 keeps the capability to traverse
   closed directories, so that a project below /root (mode 700) stays closed and PostgreSQL still reaches its files.
2. On Linux, ask the kernel to send SIGNAL when PARENT ends, even by SIGKILL. Only after step 1: changing the user
   resets the request. Other systems lack this; there the next start ends the leftovers.
3. Replace this process by the program.

A script instead of `preexec_fn`: a fork that runs Python code is unsafe (and warned about) in a process with threads.
"""

import ctypes
import os
import struct
import sys

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
PR_GET_SECUREBITS, PR_SET_SECUREBITS, NO_SETUID_FIXUP = 27, 28, 1 << 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def step_down(uid: int, gid: int, *, reach: bool) -> None:
    """Change from root to an ordinary user, keeping CAP_DAC_OVERRIDE when `reach`."""
    keeps = reach and sys.platform == "linux"  # no other system has capabilities
    if keeps:
        libc().prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        # access(2) ignores the capabilities of an ordinary user unless this bit is set, and PostgreSQL's programs
        # look for each other with access(2). The bit survives the following execs.
        libc().prctl(PR_SET_SECUREBITS, libc().prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) | NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if keeps:
        bit = 1 << CAP_DAC_OVERRIDE
        header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
        # Two words each of effective, permitted, inheritable. Keeps CAP_DAC_OVERRIDE, in the first word, and no other.
        if libc().capset(header, struct.pack("=6I", bit, bit, bit, 0, 0, 0)):
            raise PermissionError("capset")
        libc().prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def require_program(program: str, uid: int) -> None:
    """Exit with one line when the user may not run the program; PostgreSQL's own message suggests no remedy."""
    if not os.access(program, os.X_OK):
        sys.exit(
            f"error: user {uid} cannot reach {program}: run this as an ordinary user, "
            "or move the project to a folder that every user may traverse"
        )


def die_with(parent: int, signum: int) -> None:
    """Ask to receive `signum` when the parent dies; exit if it died before the request."""
    if sys.platform == "linux":
        libc().prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> None:
    cut = arguments.index("--")
    parent, signum, *account = map(int, arguments[:cut])
    program = arguments[cut + 1 :]
    if account:
        step_down(account[0], account[1], reach=bool(account[2]))
        require_program(program[0], account[0])
    die_with(parent, signum)
    os.execv(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
