"""Which sockets of a process and of its descendants take connections, as Linux tells it."""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LISTENING, UNCONNECTED = "0A", "07"
# Of /proc/net/unix: a socket that takes connections
ACCEPTS = 0x10000


def descendants(root: int) -> set[int]:
    """The process and all that it has started, and those have."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            status = Path(f"/proc/{name}/stat").read_text()
            parents[int(name)] = int(status.rpartition(")")[2].split()[1])
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def inodes_of(pids: set[int]) -> set[str]:
    """The sockets that these processes hold open."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return {link[8:-1] for link in found if link.startswith("socket:[")}


def address_of(words: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """Read an address and port as /proc/net writes them, 32 bits at a time in this CPU's order."""
    digits, port = words.split(":")
    raw = b"".join(bytes.fromhex(digits[i : i + 8])[::-1] for i in range(0, len(digits), 8))
    address = ipaddress.ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address, int(port, 16)


def listening(root: int) -> tuple[set[str], set[str]]:
    """The sockets of these processes that take what comes: on the loopback, and on all else.

    A name without a file counts as the latter: every user of the machine may connect to it.
    """
    mine = inodes_of(descendants(root))
    inside: set[str] = set()
    outside: set[str] = set()
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]:
            fields = line.split()
            takes = fields[3] == (LISTENING if protocol.startswith("tcp") else UNCONNECTED)
            if takes and fields[9] in mine:
                address, port = address_of(fields[1])
                place = inside if address.is_loopback else outside
                place.add(f"{protocol} {address} {port}")
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        is_named = len(fields) > 7 and fields[7].startswith("@")
        if int(fields[3], 16) & ACCEPTS and fields[6] in mine and is_named:
            outside.add(f"unix {fields[7]}")
    return inside, outside


@contextmanager
def watched() -> Iterator[tuple[set[str], set[str]]]:
    """Collect what `listening` finds of this process; the last look is at the end of the block."""
    inside: set[str] = set()
    outside: set[str] = set()
    end = threading.Event()

    def look() -> None:
        while True:
            is_last = end.is_set()
            for found, seen in zip((inside, outside), listening(os.getpid()), strict=True):
                found |= seen
            if is_last:
                return
            end.wait(0.05)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield inside, outside
    finally:
        end.set()
        watcher.join()
