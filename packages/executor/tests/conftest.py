"""What all tests of the executor start from."""

from __future__ import annotations

import os

# Text has the width that a test gives it: processes of pytest-xdist start with one of their own
os.environ.pop("COLUMNS", None)
