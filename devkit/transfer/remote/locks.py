"""Locks on what is half-written, so that one transfer at a time writes it."""

import errno
import fcntl
import os
import time

from .attributes import NOT_SUPPORTED, lstat
from .wire import SILENCE_S

LOCK_WAIT_S = SILENCE_S + 15


def acquire(descriptor: int, deadline: float) -> bool:
    """Lock a file or folder for as long as it is open; False where another transfer keeps it past the deadline.

    A file system without locks (Lustre with noflock, NFS without a lock daemon) has it taken for locked: a part is made
    with O_EXCL, and two transfers that go on with one part at once are left to the checksums.
    """
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        except OSError as error:
            if error.errno not in (*NOT_SUPPORTED, errno.ENOLCK):
                raise
            return True
        else:
            return True


def still_names(folder: int, name: bytes, descriptor: int) -> bool:
    """Tell whether a name is that of what is open: whoever held it before may have renamed it into place."""
    now, status = lstat(folder, name), os.fstat(descriptor)
    return now is not None and (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino)
