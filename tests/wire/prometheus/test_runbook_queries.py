"""The queries that runbooks tell people to run are PromQL, as promtool reads it."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

RUNBOOKS = sorted((Path(__file__).parents[3] / "docs" / "runbooks").glob("*.md"))


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_every_query_parses(runbook: Path, tmp_path: Path) -> None:
    lines = "\n".join(re.findall(r"^```promql\n(.*?)^```", runbook.read_text(), re.MULTILINE | re.DOTALL)).splitlines()
    queries = [line for line in lines if line and not line.startswith("#")]
    assert queries, "says nothing to look at"
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": runbook.stem, "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
