"""Verdicts and prices as people read them."""

from rich.console import Console
from rich.markup import escape

from latentry_serving.drift_cli.kinds import REORDERING
from latentry_serving.drift_cli.scenario import Scenario
from latentry_serving.drift_cli.simulate import Price
from latentry_serving.drift_cli.verdict import Drifted, TensorWindow, Verdict

_MOST_WINDOWS = 20


def print_verdict(console: Console, verdict: Verdict, *, title: str) -> None:
    """The verdict in a line, then why, tensor by tensor, then the windows."""
    judged = f"{len(verdict.windows)} windows of {verdict.window} inputs"
    left = f", {verdict.left_over} inputs at the end fill no window" if verdict.left_over else ""
    word = "[yellow]not judged[/]" if verdict.unjudged else "[green]no drift[/]"
    word = "[red]drift[/]" if verdict.drifted else word
    console.print(f"{word} in {escape(title)}: {judged}{left}", soft_wrap=True)
    by_tensor = verdict.first_by_tensor()
    for alarms in by_tensor.values():
        _print_alarms(console, alarms, verdict)
    for part in verdict.health_parts:
        windows = [h for h in verdict.health if h.part == part]
        if windows:
            reasons = [finding.reason for finding in windows[0].report.alarming(windows[0].alpha)]
            numbers = _numbers([h.window for h in windows])
            console.print(f"health of {part}: [red]unhealthy[/] in windows {numbers}", soft_wrap=True)
            for reason in reasons:
                console.print(f"  {escape(reason)}", soft_wrap=True)
        else:
            console.print(f"health of {part}: healthy")
    if verdict.windows:
        _print_windows(console, verdict)


def _print_alarms(console: Console, alarms: list[Drifted], verdict: Verdict) -> None:
    first = alarms[0]
    lines = first.explanation.text().splitlines()
    window = verdict.windows[first.window]
    since = f"  since: input {first.since_row} (windows {first.since_row // verdict.window} to {first.window})"
    if first.since_row == window.first:
        since = f"  since: input {first.since_row} (window {first.window})"
    for line in lines:
        # Without a clock of its own the check counts inputs, not seconds.
        console.print(escape(since if line.startswith("  since:") else line), soft_wrap=True)
    others = list(dict.fromkeys(str(alarm.explanation.alarm.statistic) for alarm in alarms[1:]))
    if others:
        console.print(f"  alarms also: {', '.join(others)}", soft_wrap=True)


def _print_windows(console: Console, verdict: Verdict) -> None:
    rows = [["window", "inputs", *(tensor.tensor for tensor in verdict.windows[0].tensors)]]
    rows += [
        [str(index), f"{window.first}-{window.last}", *(_cell(tensor) for tensor in window.tensors)]
        for index, window in enumerate(verdict.windows[:_MOST_WINDOWS])
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        console.print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(), soft_wrap=True
        )
    if len(verdict.windows) > _MOST_WINDOWS:
        console.print(f"... and {len(verdict.windows) - _MOST_WINDOWS} more (--json has all)")
    console.print("each cell: the smallest p of the tensor's statistics; ! while an alarm is on", soft_wrap=True)


def _cell(tensor: TensorWindow) -> str:
    if tensor.statistic is None:
        return "not judged"
    return f"{tensor.p:.1e} {tensor.statistic}{' !' if tensor.alarms else ''}"


def _numbers(values: list[int]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return shown + (f" and {len(values) - 8} more" if len(values) > 8 else "")


def print_price(console: Console, price: Price, scenario: Scenario) -> None:
    """Delay and false alarms of one simulation."""
    what = f"{scenario.kind} of {scenario.size:g}" + ("" if scenario.kind in REORDERING else f" on {scenario.on}")
    console.print(
        f"[bold]{what}[/], {scenario.rate:g} inputs/s, windows of {scenario.window} ({span(price.window_s)} each), "
        f"a false alarm in {span(scenario.run_time_s)}",
        soft_wrap=True,
    )
    if price.delay_s is None or price.median_s is None:
        console.print(
            f"  noticed within {span(price.followed_s)} in {price.noticed:.0%} of runs: too small for these settings",
            soft_wrap=True,
        )
    else:
        low, high = price.delay_interval or (price.delay_s, price.delay_s)
        within = f" (95 % interval {span(low)} to {span(high)})" if price.delay_interval else ""
        late = f"95 % of runs within {span(price.late_s)}" if price.late_s else f"half within {span(price.median_s)}"
        missed = "" if price.noticed == 1 else f"; {1 - price.noticed:.0%} not within {span(price.followed_s)}"
        console.print(f"  noticed after {span(price.delay_s)} on average{within}; {late}{missed}", soft_wrap=True)
        console.print("  first by " + ", ".join(f"{by} ({share:.0%})" for by, share in price.first), soft_wrap=True)
    low, high = price.simulated_interval
    console.print(
        f"  false alarms of drift: {price.stated_a_month:.3g} a month stated, {price.simulated_a_month:.2g} simulated "
        f"(95 % interval {low:.2g} to {high:.2g}); as many again may come from model health",
        soft_wrap=True,
    )


def span(seconds: float) -> str:
    """A time as people say it: three digits at most."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
