"""``latentry tap``: measure the traffic to a Triton, ours or not."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer


def tap(
    config: Annotated[
        Path | None,
        typer.Option(help="YAML or JSON file; LATENTRY_TAP_* in the environment override it.", show_default=False),
    ] = None,
) -> None:
    """Forward HTTP and gRPC to a Triton untouched, and measure every call."""
    from latentry_serving.tap.lifecycle import run
    from latentry_serving.tap.logs import set_up_logging
    from latentry_serving.tap.settings import load_config

    settings = load_config(config)
    set_up_logging(settings.log_level)
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(run(settings))


def _loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ModuleNotFoundError:  # not on every platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
