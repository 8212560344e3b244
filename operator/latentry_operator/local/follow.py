"""Edits of the files reach the models they name; what is wrong with one reaches them as a sentence."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from latentry_operator.local.edits import LOOK_SECONDS, WatchedFile
from latentry_operator.local.wanted import Wanted, read_wanted
from latentry_serving.contract.errors import InvalidInput


class Follower(Protocol):
    """What follows a file: a local model."""

    @property
    def name(self) -> str: ...
    def follow(self, wanted: Wanted) -> None: ...
    def refuse(self, reason: str) -> None: ...


async def follow_files(
    files: Sequence[WatchedFile], models: Mapping[Path, Sequence[Follower]], note: Callable[[str], None]
) -> None:
    """Looks at the files for ever, beside the event loop: a bundle's digests take their time.

    Args:
        models: those that each file named when it was first read.
        note: told what is no model's business.
    """
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for file in files:
            if await asyncio.to_thread(file.changed):
                await take(file.path, models[file.path], note)


async def take(path: Path, models: Sequence[Follower], note: Callable[[str], None]) -> None:
    """Reads a file and tells each model what it asks for now."""
    try:
        found = await asyncio.to_thread(read_wanted, path)
    except InvalidInput as error:
        for model in models:
            model.refuse(str(error))
        return
    for model in models:
        wanted = found.get(model.name)
        if isinstance(wanted, Wanted):
            model.follow(wanted)
        elif wanted is not None:
            model.refuse(str(wanted))
        else:
            model.refuse(f"{path} no longer names {model.name}, which goes on; end `latentry up` to stop it")
    if new := sorted(found.keys() - {model.name for model in models}):
        note(f"{path} names {', '.join(new)} too; start `latentry up` anew to serve that")
