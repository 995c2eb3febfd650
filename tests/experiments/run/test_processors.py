import platform
import subprocess
import sys

import pytest

from experiments.run import processors

# What asks for AMX by the system call itself gets an error number, or 0.
PROGRAM = """
import ctypes
import errno
from experiments.run import processors

def ask():
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.syscall(158, 0x1023, ctypes.c_ulong(18))
    return ctypes.get_errno() if failed else 0

processors.refuse_amx()
print(ask() == errno.EPERM, processors.amx_granted())
"""


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="other processors have no AMX",
)
def test_the_kernel_refuses_amx():
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
    )
    assert found.stdout.split() == ["True", "False"], found.stderr


def test_what_was_granted_cannot_be_taken_back(monkeypatch):
    monkeypatch.setattr(processors.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(processors, "amx_granted", lambda: True)
    with pytest.raises(RuntimeError, match="must be called before a library asks"):
        processors.refuse_amx()


def test_on_other_processors_nothing_is_done(monkeypatch):
    monkeypatch.setattr(processors.platform, "machine", lambda: "aarch64")
    monkeypatch.delattr(processors, "amx_granted")
    processors.refuse_amx()
