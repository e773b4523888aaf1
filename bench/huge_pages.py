"""The kernel's reserve of huge pages, for the shared memory of the cluster.

With small pages every server process has a page table of its own for all of shared memory, and many processes on a few
processors spend more time on those tables than on messages: what is measured then is the machine.  So a server that is in
earnest about its speed has huge pages, and this one gets them where the kernel lets us.
"""

import os
from pathlib import Path

RESERVE = Path("/proc/sys/vm/nr_hugepages")


class HugePages:
    """Room in the reserve, from construction to release().  `granted` tells whether there is as much as was wanted."""

    def __init__(self, pages: int):
        self.added = 0
        self.granted = False
        if not os.access(RESERVE, os.W_OK):
            return
        before = _reserved()
        try:
            RESERVE.write_text(str(before + pages))
        except OSError:                                 # a container whose root may not
            return
        self.added = _reserved() - before
        self.granted = self.added >= pages              # fewer, if memory is in pieces
        if not self.granted:
            self.release()

    def release(self) -> None:
        """Give back what was added."""
        if self.added:
            RESERVE.write_text(str(_reserved() - self.added))
            self.added = 0


def _reserved() -> int:
    return int(RESERVE.read_text())
