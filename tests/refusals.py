"""Machines that refuse: to who is not root, and file systems without locks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from typing import NoReturn

RIGHTS_OF_ROOT = (1, 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: to read and write whatever a file's mode says


def as_anybody() -> None:
    """Give up what lets root read and write whatever a file's mode says, for this process and all below it."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for right in RIGHTS_OF_ROOT:
            assert libc.prctl(24, right, 0, 0, 0) == 0  # PR_CAPBSET_DROP
        header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capset(header, rights) == 0


def without_locks() -> None:
    """Refuse each lock to this process, as NFS without a lock daemon does."""

    def refused(*_: object) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = fcntl.lockf = refused
