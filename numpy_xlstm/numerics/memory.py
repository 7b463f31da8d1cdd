"""Memory that is freed and needed again at once."""

import numpy as np


def keep_freed_memory() -> None:
    """Make the allocator of Linux keep what is freed, as it does after a program freed much.

    A forward frees many arrays that the next one needs again. By default glibc gives more than
    128 KiB back to the system, and getting it again can take longer than computing what is in it.
    That limit is not fixed: glibc raises it, up to 64 MiB, to twice the largest block that was ever
    freed. So one such block is asked for and freed, without being touched. Elsewhere this does
    nothing.
    """
    np.empty(2**25 - 2**16, np.uint8)
