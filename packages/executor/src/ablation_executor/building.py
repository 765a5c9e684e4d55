"""One module is captured, and one program built from it, at a time in a process.

torch.export replaces methods of torch.nn.Module for all threads while it captures, and puts back
what it has found: two captures at once would leave the one's replacement behind.
"""

from __future__ import annotations

import os
import threading

BUILDING = threading.RLock()

# A fork waits for the program that is being built.
os.register_at_fork(
    before=BUILDING.acquire,
    after_in_parent=BUILDING.release,
    after_in_child=BUILDING.release,
)
