"""``latentry drift report``: the page as a file."""

import uuid
from pathlib import Path

from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.drift_cli.judging import Judged
from latentry_serving.drift_cli.report_data import Evidence, report_of
from latentry_serving.drift_cli.report_page import rendered

_SUFFIXES = (".html", ".htm")


def check_target(output: Path) -> None:
    """Refuses a place where no page can be written, before any work is done.

    Raises:
        InvalidInput: another suffix than .html (so that no data are replaced), a folder, a folder that is not there.
    """
    problem = None
    if output.suffix.lower() not in _SUFFIXES:
        problem, remedy = f"{output} is not named as a page", "give a name that ends in .html"
    elif output.is_dir():
        problem, remedy = f"{output} is a folder", f"give a file, such as {output / 'report.html'}"
    elif not output.parent.is_dir():
        problem, remedy = f"the folder {output.parent} does not exist", "make it, or write elsewhere"
    if problem:
        raise InvalidInput.one("drift report", path="--output", problem=problem, remedy=remedy)


def write_report(judged: Judged, output: Path) -> None:
    """Writes the page, whole or not at all.

    Raises:
        OperationFailed: the file system refuses.
    """
    page = rendered(report_of(evidence_of(judged), title=f"{judged.manifest.name} {judged.manifest.version}"))
    staging = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}")
    try:
        staging.write_text(page, encoding="utf-8")
        staging.replace(output)
    except OSError as error:
        raise OperationFailed(
            f"{output} cannot be written: {error.strerror}", remedy="free space, or write elsewhere with --output"
        ) from error
    finally:
        staging.unlink(missing_ok=True)


def evidence_of(judged: Judged) -> Evidence:
    """What the page is made from, with names and digests of bundle and inputs."""
    manifest = judged.manifest
    facts = [
        ("bundle", f"{manifest.name} {manifest.version} ({manifest.contract.family})"),
        ("digest", manifest.digest),
        ("inputs' file", judged.file.name),
        *((f"digest of {role}", digest) for role, digest in judged.inputs.digests.items()),
    ]
    return Evidence(judged.profile, judged.verdict, judged.values, judged.inputs.times_s, judged.settings, tuple(facts))
