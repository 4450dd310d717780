"""Start one program whose life is bound to its parent's; run by path, so it needs nothing but the standard library.

    python -I -S launch.py PARENT SIGNAL [UID GID REACH] -- program argument…

1. As root, step down to UID and GID (PostgreSQL refuses to run as root). REACH=1 keeps one capability, passing
   directories: a project under /root stays closed to everybody and PostgreSQL still finds its files.
2. On Linux, ask the kernel to send SIGNAL when PARENT dies, even of SIGKILL. Only after step 1: changing the user
   clears the wish. Other systems have no such thing; there the next start clears up.
3. Become the program.

A script instead of `preexec_fn`: a fork that runs Python code is unsafe (and warned about) in a process with threads.
"""

import ctypes
import os
import struct
import sys

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def step_down(uid: int, gid: int, *, reach: bool) -> None:
    """From root to an ordinary user, keeping CAP_DAC_OVERRIDE when `reach`."""
    if reach:
        libc().prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if reach:
        bit = 1 << CAP_DAC_OVERRIDE
        header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
        # Two words each of effective, permitted and inheritable; ours is in the first.
        if libc().capset(header, struct.pack("=6I", bit, bit, bit, 0, 0, 0)):
            raise PermissionError("capset")
        libc().prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def die_with(parent: int, signum: int) -> None:
    """Be sent `signum` when the parent dies; a parent that died before we could ask counts too."""
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
    die_with(parent, signum)
    os.execv(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
