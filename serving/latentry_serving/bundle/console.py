"""What the bundle and drift commands share on a terminal: progress, warnings, JSON."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from latentry_serving.bundle.progress import Step


def print_json(text: str) -> None:
    """A document on stdout as it is, without colours or line breaks of its own."""
    sys.stdout.write(text + "\n")


def print_warnings(sentences: Iterable[str]) -> None:
    """What is worth knowing, on stderr, so that stdout stays readable for machines."""
    console = Console(stderr=True, highlight=False)
    for sentence in sentences:
        console.print(f"warning: {sentence}", markup=False, soft_wrap=True)


@contextmanager
def shown() -> Iterator[Callable[[Step], None]]:
    """A progress bar on stderr while a terminal looks on; silent otherwise."""
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda step: bar.update(task, description=step.name, completed=step.done, total=step.total)
