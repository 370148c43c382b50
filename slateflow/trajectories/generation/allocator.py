"""Memory that is used again instead of given back and asked for anew."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of mallopt's parameters in malloc.h
_LARGEST_BLOCK = 2**25  # the highest threshold that glibc takes
_USUAL_TRIM = 2 * _LARGEST_BLOCK  # what glibc comes to by itself where such blocks are freed


def keep_memory() -> bool:
    """From now on glibc keeps what is freed; whether the C library is glibc.

    Generation frees and takes the same tens of megabytes for every batch. By default glibc
    returns them to the kernel in between, which has to map and clear every page again: about a
    tenth of all the time.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        return False
    return bool(
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) and libc.mallopt(_TRIM_THRESHOLD, 2**30)
    )


@contextmanager
def kept_memory() -> Iterator[None]:
    """The same within a block, after which everything is given back."""
    kept = keep_memory()
    try:
        yield
    finally:
        if kept:
            libc = ctypes.CDLL(None)
            libc.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
            libc.malloc_trim(0)
