"""A full disk, named as the OSError that it is."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
    """Turn what torch and safetensors raise on a full disk into the OSError that it is.

    Args:
        folder: what is written to.
    """
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        # torch says only that a position in its archive is unexpected.
        if "No space left" in str(error) or not shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from None
        raise
