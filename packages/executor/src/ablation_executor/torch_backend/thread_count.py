"""How many threads a call of a part uses, and how the count of the process is left as it was.

The kernels' count of threads is the process's, and a program refuses a count above the one that it
was built for. A part therefore sets it for the time of its call. Calls of several Python threads
share the setting where they want the same; one that wants another waits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ablation_kernels


class ThreadCount:
    """The kernels' count of threads while parts run."""

    def __init__(self) -> None:
        self.forget_calls()

    def forget_calls(self) -> None:
        """Begin anew: in a child of fork, calls of the parent's other threads never end."""
        self._changed = threading.Condition(threading.Lock())
        self._n_calls = 0
        self._wanted = 0
        self._before = 0

    @contextmanager
    def at_most(self, threads: int) -> Iterator[None]:
        """Let the kernels use `threads` threads, or fewer where fewer were set before."""
        self._enter(threads)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, threads: int) -> None:
        with self._changed:
            while self._n_calls and self._wanted != threads:
                self._changed.wait()
            if not self._n_calls:
                self._wanted, self._before = threads, ablation_kernels.get_num_threads()
                if threads < self._before:
                    ablation_kernels.set_num_threads(threads)
            self._n_calls += 1

    def _leave(self) -> None:
        with self._changed:
            self._n_calls -= 1
            if not self._n_calls:
                if self._wanted < self._before:
                    ablation_kernels.set_num_threads(self._before)
                self._changed.notify_all()


THREADS = ThreadCount()
