"""Run a module under a rule of the Linux kernel: it kills the process that reaches for a network, in native code too.

python no_internet.py sockets MODULE ARGUMENTS...    no IPv4 or IPv6 socket may be made at all
python no_internet.py connect MODULE ARGUMENTS...    a server may listen, but nothing may be called
python no_internet.py names   MODULE ARGUMENTS...    an address may be called, but no name looked up (no datagrams)
"""

import ctypes
import platform
import runpy
import struct
import sys

ALLOW, KILL = 0x7FFF0000, 0x80000000  # SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06  # BPF: load a word, mask it, jump if equal, return
SYSCALL_AT, ARCHITECTURE_AT, ARGUMENT_0_AT, ARGUMENT_1_AT = 0, 4, 16, 24  # offsets in struct seccomp_data
AF_INET, AF_INET6 = 2, 10
SOCK_DGRAM, SOCK_TYPES = 2, 0xF
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
MACHINES = {
    "x86_64": (0xC000003E, {"sockets": 41, "connect": 42, "names": 41}),
    "aarch64": (0xC00000B7, {"sockets": 198, "connect": 203, "names": 198}),
}


def supported() -> bool:
    """Whether this is a Linux whose system calls are known here."""
    return sys.platform == "linux" and platform.machine() in MACHINES


def forbid(what: str) -> None:
    """From now on, for all threads to come: the forbidden call ends the process with SIGSYS. Man page: seccomp(2)."""
    architecture, numbers = MACHINES[platform.machine()]
    forbidden = [(EQUAL, 0, 2, numbers[what])]
    if what == "names":
        forbidden += [(LOAD, 0, 0, ARGUMENT_1_AT), (AND, 0, 0, SOCK_TYPES), (EQUAL, 0, 4, SOCK_DGRAM)]
    if what in ("sockets", "names"):
        forbidden += [(LOAD, 0, 0, ARGUMENT_0_AT), (EQUAL, 1, 0, AF_INET), (EQUAL, 0, 1, AF_INET6)]
    forbidden[0] = (EQUAL, 0, len(forbidden), numbers[what])
    program = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 0, len(forbidden) + 2, architecture),
        (LOAD, 0, 0, SYSCALL_AT),
        *forbidden,
        (RETURN, 0, 0, KILL),
        (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    forbid(sys.argv[1])
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
