"""The errors users meet. Each carries what is wrong, where, and what to do about it.

::

    LatentryError                 anything the command line reports without a traceback
    ├── InvalidInput              the caller's input is wrong: exit code 2, every problem listed
    └── OperationFailed           the input was fine, the world was not (a port, a process, a disk): exit code 1
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input.

    Attributes:
        path: where, as the user wrote it: ``spec.slo.latency[0].within`` or a file name.
        problem: what is wrong, with the offending value.
        remedy: what to do, as an instruction ("write 50ms").
        line: where in the file, counted from 1; None when there is no file.
    """

    path: str
    problem: str
    remedy: str
    line: int | None = None

    def __str__(self) -> str:
        place = self.path if self.line is None else f"line {self.line}, {self.path}"
        return f"{place}: {self.problem}; {self.remedy}"


class LatentryError(Exception):
    """Base of every error that is shown to a user as a sentence."""

    exit_code = 1


class InvalidInput(LatentryError):
    """One or more problems in what the user gave. All of them are collected, none is fixed silently."""

    exit_code = 2

    def __init__(self, subject: str, problems: Iterable[Problem]) -> None:
        self.subject = subject
        self.problems = tuple(problems)
        super().__init__("\n".join([f"{subject}: {self._count()}", *(f"  - {p}" for p in self.problems)]))

    def _count(self) -> str:
        return "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"

    @classmethod
    def one(cls, subject: str, *, path: str, problem: str, remedy: str) -> "InvalidInput":
        """The common case of a single problem."""
        return cls(subject, [Problem(path, problem, remedy)])

    @classmethod
    def merged(cls, subject: str, errors: Sequence["InvalidInput"]) -> "InvalidInput":
        """One error out of several; with more than one, each path starts with where it comes from."""
        if len(errors) == 1:
            return errors[0]
        return cls(subject, [replace(p, path=f"{e.subject}: {p.path}") for e in errors for p in e.problems])


class OperationFailed(LatentryError):
    """Something outside failed: a process, a port, a file system. ``details`` holds its last words."""

    def __init__(self, problem: str, *, remedy: str, details: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        self.details = details
        super().__init__("\n".join(part for part in (f"{problem}; {remedy}", details) if part))
