"""Triton's log, read as it comes: kept in a bounded ring and a bounded file, and understood as far as we need."""

import logging
import re
from collections import deque
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path

FILE_BYTES = 10_000_000
"""The log file is renamed to ``<name>.1`` at this size and begun anew; so at most twice this is kept."""

_LOADING = re.compile(r'"loading: (?P<model>.+):\d+"')
_LOADED = re.compile(r"\"successfully loaded '(?P<model>[^']+)'\"")
_FAILED = re.compile(r"\"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)\"\s*$")
_POLL_FAILED = re.compile(r"\"Poll failed for model directory '(?P<model>[^']+)': (?P<reason>.*)\"\s*$")
_PORT_TAKEN = re.compile(r"Socket '(?P<address>[^']+)' already in use")
_LIBRARY = re.compile(r"error while loading shared libraries: (?P<library>[^:]+): (?P<reason>.*)")
_OUT_OF_MEMORY = re.compile(
    r"bad_alloc|Cannot allocate memory|CUDA out of memory|MemoryError|Failed to allocate memory"
)
_SHARED_MEMORY_FULL = re.compile(
    r"(?:shared memory|/dev/shm).*No space left on device|Failed to increase the shared memory"
)
_NOISE = re.compile(
    r"^\s*$|^[|+]|^\w\d+ [\d:.]+ \d+ \S+\]\s*$|\"Timeout \d+: Found |\"(?:Waiting for|Collecting|All models) "
)


@dataclass(slots=True)
class ServerLog:
    """What one run of Triton said. ``lines`` most recent, oldest first."""

    lines: deque[str]
    loading: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    """Model -> Triton's reason."""
    port_taken: str = ""
    """``host:port`` that another process holds."""
    missing_library: str = ""
    out_of_memory: str = ""
    """The line that says so."""
    shared_memory_full: str = ""

    def add(self, line: str) -> None:
        """Takes one line, without its end."""
        self.lines.append(line)
        if match := _LOADING.search(line):
            self.loading.add(match["model"])
        elif match := _LOADED.search(line):
            self.loaded.add(match["model"])
        elif match := _FAILED.search(line) or _POLL_FAILED.search(line):
            self.failed[match["model"]] = match["reason"].replace("\\n", "\n").strip()
        if match := _PORT_TAKEN.search(line):
            self.port_taken = match["address"]
        if match := _LIBRARY.search(line):
            self.missing_library = match["library"]
        if _SHARED_MEMORY_FULL.search(line):
            self.shared_memory_full = line
        elif _OUT_OF_MEMORY.search(line):
            self.out_of_memory = line

    def tail(self, count: int) -> str:
        """The last lines that say something: without the tables of settings and the countdown of every exit."""
        return "\n".join([line for line in self.lines if not _NOISE.search(line)][-count:])


def open_log_file(path: Path) -> RotatingFileHandler:
    """A bounded file for raw log lines; write with ``write_line``."""
    handler = RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


def write_line(handler: RotatingFileHandler, line: str) -> None:
    """Appends one line."""
    handler.emit(logging.LogRecord("triton", logging.INFO, "", 0, line, None, None))
