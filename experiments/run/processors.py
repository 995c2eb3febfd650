"""What a processor may do for this process."""

from __future__ import annotations

import ctypes
import errno
import platform

# Of the system call arch_prctl on x86-64, see arch/x86/include/uapi/asm/prctl.h.
_NUMBER = 158
_GET_PERMISSION, _REQUEST_PERMISSION = 0x1022, 0x1023
_TILES = 18


def refuse_amx() -> None:
    """Has the kernel refuse Intel's AMX to this process and all that it starts.

    Libraries that ask for it, XNNPACK among them, then take the kernels of processors
    without it, as phones, boards and most desktops are. It cannot be undone. On other
    processors than x86-64 nothing is done.

    Raises:
        ImportError: pyseccomp or libseccomp is missing.
        RuntimeError: a library of this process has asked for AMX before.
    """
    if platform.machine() != "x86_64":
        return
    if amx_granted():
        raise RuntimeError("`refuse_amx` must be called before a library asks for AMX.")
    try:
        import pyseccomp as seccomp  # on Linux only
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            "To do without AMX needs pyseccomp and the system's libseccomp: "
            f"pip install pyseccomp ({error})"
        ) from error
    refused = seccomp.SyscallFilter(seccomp.ALLOW)
    for code in (_GET_PERMISSION, _REQUEST_PERMISSION):
        argument = seccomp.Arg(0, seccomp.EQ, code)
        refused.add_rule(seccomp.ERRNO(errno.EPERM), "arch_prctl", argument)
    refused.load()


def amx_granted() -> bool:
    """Whether the kernel has granted AMX to this process."""
    granted = ctypes.c_uint64(0)
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.syscall(_NUMBER, _GET_PERMISSION, ctypes.byref(granted))
    return not failed and bool(granted.value >> _TILES & 1)
