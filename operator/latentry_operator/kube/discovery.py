"""Which kinds the API server serves; optional CRDs may come and go while we run."""

import asyncio
from collections.abc import Collection, Iterable

from latentry_operator.kube.client import Client
from latentry_operator.kube.kinds import PREFERRED_OVER, Kind


async def served_kinds(client: Client, kinds: Iterable[Kind]) -> frozenset[Kind]:
    """Those of ``kinds`` that the server has; of two versions of one kind only the preferred one.

    Raises:
        KubeError: the server did not answer.
    """
    wanted = list(kinds)
    roots = sorted({kind.root for kind in wanted})
    documents = await asyncio.gather(*(client.discover(root) for root in roots))
    resources = {
        root: {resource["name"] for resource in (document or {}).get("resources", ())}
        for root, document in zip(roots, documents, strict=True)
    }
    return preferred({kind for kind in wanted if kind.plural in resources[kind.root]})


def preferred(kinds: Collection[Kind]) -> frozenset[Kind]:
    """Without those of which a preferred version is there too."""
    return frozenset(kind for kind in kinds if PREFERRED_OVER.get(kind) not in kinds)
