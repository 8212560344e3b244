"""Field ownership as server-side apply records it (``metadata.managedFields``). Pure.

The format (``f:``, ``k:``, ``v:``, ``.``) is FieldsV1: structured-merge-diff's fieldpath/serialize-pe.go.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

Fields = Mapping[str, Any]

_IDENTITY = ("apiVersion", "kind", "status")
_IDENTITY_METADATA = ("name", "namespace", "ownerReferences", "resourceVersion", "uid")


def applied_by(obj: Mapping[str, Any], manager: str) -> Fields:
    """The fields of ``obj`` that ``manager`` owns through server-side apply, those of subresources left out."""
    return _merged(
        entry["fieldsV1"]
        for entry in _apply_entries(obj)
        if entry.get("manager") == manager and not entry.get("subresource")
    )


def applied_by_others(obj: Mapping[str, Any], manager: str) -> Fields:
    """The fields that managers other than ``manager`` claim through server-side apply."""
    return _merged(entry["fieldsV1"] for entry in _apply_entries(obj) if entry.get("manager") != manager)


def _apply_entries(obj: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for entry in obj.get("metadata", {}).get("managedFields", ()):
        if entry.get("operation") == "Apply" and "fieldsV1" in entry:
            yield entry


def _merged(parts: Iterator[Fields]) -> Fields:
    result: dict[str, Any] = {}
    for part in parts:
        result = _union(result, part) if result else dict(part)
    return result


def _union(one: Fields, other: Fields) -> dict[str, Any]:
    return {key: _union(one.get(key, {}), other.get(key, {})) for key in {**one, **other}}


def fingerprint(obj: Mapping[str, Any], fields: Fields, *, only_owned: bool) -> bytes:
    """A hash of an object's content: metadata's labels and annotations and everything beside metadata and status.

    Lists that ``fields`` shows to be merged by key or as sets are hashed regardless of order. An empty struct that
    ``fields`` does not name is left out.

    Args:
        obj: a live or a desired object.
        fields: who owns what in the live one.
        only_owned: hash what ``fields`` names only (for the live object), else all (for the desired one).
    """
    body = {name: value for name, value in obj.items() if name not in _IDENTITY}
    metadata = {name: value for name, value in body.get("metadata", {}).items() if name not in _IDENTITY_METADATA}
    owned = {name: value for name, value in fields.items() if name != "f:status"}
    canonical = _canonical(body | {"metadata": metadata}, owned, only_owned)
    if not canonical.get("metadata"):
        canonical.pop("metadata", None)
    return hashlib.blake2b(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def _canonical(value: Any, fields: Fields, only_owned: bool) -> Any:
    if isinstance(value, dict) and (fields or not only_owned):
        return {
            name: _canonical(item, fields.get(f"f:{name}", {}), only_owned) if f"f:{name}" in fields else item
            for name, item in value.items()
            # Of an empty struct, such as an emptyDir's, Kubernetes 1.20 records no owner, so it cannot be compared.
            if f"f:{name}" in fields or not (only_owned or (fields and item == {}))
        }
    if isinstance(value, list) and _is_merged(fields):
        return sorted(
            _items(value, fields, only_owned), key=lambda item: orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
        )
    return value


def _is_merged(fields: Fields) -> bool:
    return any(name.startswith(("k:", "v:")) for name in fields)


def _items(value: list[Any], fields: Fields, only_owned: bool) -> Iterator[Any]:
    keyed = [(orjson.loads(name[2:]), inner) for name, inner in fields.items() if name.startswith("k:")]
    members = [orjson.loads(name[2:]) for name in fields if name.startswith("v:")]
    for item in value:
        inner = next((found for key, found in keyed if _has_key(item, key)), None)
        if inner is not None:
            yield _canonical(item, inner, only_owned)
        elif not only_owned or item in members:
            yield item


def _has_key(item: Any, key: Mapping[str, Any]) -> bool:
    # A key may contain fields that the server defaulted, such as a port's protocol.
    return isinstance(item, dict) and all(item.get(name, wanted) == wanted for name, wanted in key.items())


def without(desired: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """``desired`` less the leaves that ``fields`` names; identity (apiVersion, kind, names, owners) always stays."""
    if not fields:
        return dict(desired)
    kept = {name: desired[name] for name in _IDENTITY if name in desired}
    metadata = desired.get("metadata", {})
    own = {name: metadata[name] for name in _IDENTITY_METADATA if name in metadata}
    return {**_subtract(desired, fields), **kept, "metadata": _subtract(metadata, fields.get("f:metadata", {})) | own}


def _subtract(value: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, item in value.items():
        inner = fields.get(f"f:{name}")
        if inner is None:
            result[name] = item
        elif isinstance(item, dict) and set(inner) - {"."}:
            if left := _subtract(item, inner):
                result[name] = left
        elif isinstance(item, list) and _is_merged(inner) and (rest := _subtract_items(item, inner)):
            result[name] = rest
    return result


def _subtract_items(items: list[Any], fields: Fields) -> list[Any]:
    result = []
    for item in items:
        found = next(
            (
                (key, inner)
                for name, inner in fields.items()
                if name.startswith("k:") and _has_key(item, key := orjson.loads(name[2:]))
            ),
            None,
        )
        if found is None:
            if f"v:{orjson.dumps(item).decode()}" not in fields:
                result.append(item)
            continue
        key, inner = found
        left = _subtract(item, inner)
        identity = {name: item[name] for name in key if name in item}
        if set(left) - set(identity):
            result.append(identity | left)
    return result
