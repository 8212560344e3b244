"""YAML files: several documents, lines, duplicates, syntax errors, hostile input, unreadable files."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from latentry_operator.api.load import load_documents, load_file, load_files, validate_files
from latentry_serving.contract.errors import InvalidInput

HEAD = "apiVersion: latentry.dev/v1alpha1\n"
POOL = HEAD + "kind: GPUPool\nmetadata: {name: a10}\nspec: {memoryPerDevice: 24Gi}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        load_documents(text, subject="x.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_several_documents_in_order(model: dict[str, Any]) -> None:
    text = f"---\n# only a comment\n---\n{POOL}---\n{yaml.safe_dump(model)}"
    resources = load_documents(text, subject="x.yaml")
    assert [(resource.kind, resource.metadata.name) for resource in resources] == [
        ("GPUPool", "a10"),
        ("LatentModel", "digits-vae"),
    ]


def test_problems_of_every_document_with_their_lines() -> None:
    assert (
        problems(
            POOL
            + "---\n"
            + HEAD  # line 6
            + "kind: LatentModel\n"
            "metadata:\n"
            "  name: digits\n"
            "spec:\n"
            "  family: VAE\n"
            "  bundle:\n"
            "    uri: file://digits\n"
            "  slo:\n"
            "    latency:\n"
            "      - within: 50ms\n"
            "        objective: 99\n"
            "      - objective: 99\n"  # line 18
            "        within: 50\n"
            "    quality:\n"
            "      objective: 99\n"
            "  scaling: {minReplicas: 3,\n"
            "            maxReplicas: 2}\n"
            "---\n"
            "apiVersion: latentry.dev/v1\n"  # line 25
            "kind: Latentmodel\n"
        )
        == [
            "line 19, spec.slo.latency[1].within: 50 has no unit; write 50ms or 50s",
            "line 21, spec.slo.quality.objective: 99 % within p99, which holds 99 % of the validation data; "
            "write less than 99, or a higher percentile",
            "line 23, spec.scaling.maxReplicas: 2 is less than minReplicas, 3; write 3 or more",
            "line 25, apiVersion: 'latentry.dev/v1' is not known; write apiVersion: latentry.dev/v1alpha1",
            "line 26, kind: 'Latentmodel' is not known; write kind: LatentModel",
        ]
    )


def test_a_missing_field_points_at_the_mapping_that_lacks_it() -> None:
    text = HEAD + "kind: GPUPool\nmetadata:\n  name: a10\nspec:\n  maxDevices: 2\n"
    assert problems(text) == ["line 5, spec.memoryPerDevice: missing; add it, for example memoryPerDevice: 24Gi"]


def test_duplicate_keys_at_any_depth() -> None:
    text = HEAD + "kind: GPUPool\nmetadata: {name: a10}\nspec:\n  memoryPerDevice: 1Gi\n  maxDevices: 2\n"
    assert problems(text + "  memoryPerDevice: 2Gi\nkind: GPUPool\n") == [
        "line 7, spec.memoryPerDevice: given twice, first in line 5; keep one of them",
        "line 8, kind: given twice, first in line 2; keep one of them",
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n---\n"])
def test_an_empty_file(text: str) -> None:
    assert problems(text) == ["document: the file is empty; write a LatentModel or a GPUPool"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spec:\n  a: [1, 2\nb: 3\n", "line 3, YAML: expected ',' or ']'"),
        ("spec:\n\ta: 1\n", "line 2, YAML: found character '\\t' that cannot start any token"),
        ("a: b: c\n", "line 1, YAML: mapping values are not allowed here"),
        ("a: *nowhere\n", "line 1, YAML: found undefined alias 'nowhere'"),
        ("a: \x00\n", "YAML: unacceptable character"),
        ("- a\n- b\n", 'line 1, document: ["a", "b"] is no resource'),
        ("just words\n", "line 1, document: 'just words' is no resource"),
        (
            "a: !!python/object:os.system {}\n",
            "line 1, a: tag tag:yaml.org,2002:python/object:os.system is not allowed",
        ),
        ("spec: {1: x}\n", "line 1, spec: key 1 is not text; put the key in quotes"),
        ("spec: {? [a] : x}\n", "line 1, spec: key of several values is not text"),
        ("[" * 20_000, "YAML: nested too deeply"),
        ("a: &a [*a]\n", "line 1, document: more than 100000 values"),
    ],
)
def test_yaml_that_is_wrong(text: str, expected: str) -> None:
    (found,) = problems(text)
    assert found.startswith(expected)


def test_an_alias_bomb_is_refused() -> None:
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12))
    (found,) = problems(f"l0: &l0 [x]\n{levels}\n")
    assert "more than 100000 values" in found


def test_documents_before_a_syntax_error_are_checked_too() -> None:
    found = problems(POOL.replace("24Gi", "24") + "---\na: [\n")
    assert [line.partition(":")[0] for line in found] == ["line 7, YAML", "line 4, spec.memoryPerDevice"]


def test_aliases_and_merge_keys_work() -> None:
    text = POOL.replace("spec: {", "spec: {nodeSelector: &n {a: b}, ") + (
        "---\n" + HEAD + "kind: GPUPool\nmetadata: {name: b}\nspec:\n  <<: {memoryPerDevice: 1Gi}\n  maxDevices: 1\n"
    )
    assert load_documents(text, subject="x")[1].to_dict()["spec"]["memoryPerDevice"] == "1Gi"


def test_dates_stay_text() -> None:
    text = POOL.replace("name: a10", "name: a10, annotations: {since: 2026-01-01}")
    assert load_documents(text, subject="x")[0].metadata.annotations == {"since": "2026-01-01"}


def test_the_same_object_twice_in_a_file() -> None:
    assert problems(f"{POOL}---\n{POOL}") == ["line 8, metadata.name: a second GPUPool a10; give it another name"]


def test_the_same_name_in_two_namespaces_is_fine(model: dict[str, Any]) -> None:
    other = model | {"metadata": model["metadata"] | {"namespace": "prod"}}
    assert len(load_documents(f"{yaml.safe_dump(model)}---\n{yaml.safe_dump(other)}", subject="x")) == 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    for path, expected in (
        (tmp_path / "none.yaml", "file: No such file or directory"),
        (tmp_path, "file: Is a directory"),
        (tmp_path / "latin.yaml", "byte 3: not UTF-8 text; save the file as UTF-8"),
    ):
        with pytest.raises(InvalidInput) as caught:
            load_file(path)
        assert str(caught.value).startswith(f"{path}: 1 problem\n  - {expected}")


def test_validate_files_tells_about_each(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(POOL)
    bad.write_text("a: [")
    results = validate_files([bad, good])
    assert [(result.path, result.summary, result.error is None) for result in results] == [
        (bad, "", False),
        (good, "GPUPool a10", True),
    ]


def test_load_files_collects_over_files(tmp_path: Path) -> None:
    bad, worse, good, copy = (tmp_path / f"{name}.yaml" for name in ("bad", "worse", "good", "copy"))
    bad.write_text(POOL.replace("24Gi", "24"))
    worse.write_text("a: [")
    good.write_text(POOL)
    copy.write_text(POOL)
    with pytest.raises(InvalidInput, match="2 files: 2 problems") as caught:
        load_files([bad, good, worse])
    assert [problem.path for problem in caught.value.problems] == [f"{bad}: spec.memoryPerDevice", f"{worse}: YAML"]
    with pytest.raises(InvalidInput, match=r"bad.yaml: 1 problem\n  - line 4, spec.memoryPerDevice"):
        load_files([bad, good])
    with pytest.raises(InvalidInput, match=r"GPUPool a10 stands in .*good.yaml already"):
        load_files([good, copy])
    assert len(load_files([good])) == 1
