"""The Grafana dashboards as `make generate` writes them (scripts/latentry_dashboards), and a model's own copies.

    executive.json, on-call.json, debug.json     for all models; the same as manifests/grafana/

A model's own have its namespace and name preset, and an identity, a title and a tag of their own.
"""

import functools
import hashlib
import json
from importlib.resources import files
from typing import Any

KEYS = ("executive", "on-call", "debug")
OVERVIEW_TAG = "latentry-overview"
"""Of these three, which the link between them lists; a model's own have a tag of their own in its place."""
_NAMESPACE, _MODEL, _UID = "@namespace@", "@model@", "@uid@"
"""Stand for what a model's own copy has in their place; no character of theirs needs escaping in JSON."""
_UID_CHARACTERS = 16


def document(key: str) -> dict[str, Any]:
    """One of the dashboards for all models."""
    loaded: dict[str, Any] = json.loads(files(__package__).joinpath(f"{key}.json").read_text(encoding="utf-8"))
    return loaded


def of_model(namespace: str, model: str) -> dict[str, str]:
    """A model's own dashboards: key -> compact JSON. Cheap: texts with a few words replaced."""
    # Grafana's uid has at most 40 characters, names may have more.
    digest = hashlib.blake2b(f"{namespace}/{model}".encode(), digest_size=_UID_CHARACTERS // 2).hexdigest()
    return {
        key: _template(key).replace(_NAMESPACE, namespace).replace(_MODEL, model).replace(_UID, digest) for key in KEYS
    }


@functools.cache
def _template(key: str) -> str:
    board = document(key)
    title = str(board["title"]).partition(" / ")[2]
    board |= {"uid": f"lm-{_UID}-{key}", "title": f"{_NAMESPACE}/{_MODEL} / {title}"}
    own = f"latentry-{_NAMESPACE}-{_MODEL}"
    board["tags"] = [own if tag == OVERVIEW_TAG else tag for tag in board["tags"]]
    for link in board["links"]:
        link["tags"] = [own if tag == OVERVIEW_TAG else tag for tag in link["tags"]]
    for variable in board["templating"]["list"]:
        preset = {"namespace": _NAMESPACE, "model": _MODEL}.get(variable["name"])
        if preset is not None:
            variable["current"] = {"selected": True, "text": preset, "value": preset}
    return json.dumps(board, separators=(",", ":"), ensure_ascii=False)
