"""Rendering: a plan in, the Kubernetes objects out that make it true. Pure; one file per kind.

Objects are plain JSON-ready data, complete but for what others own: no status, no ownerReferences, no field that an
autoscaler, KServe or the API server fills in. The models of the kserve and kubernetes packages are not used to build
them: both generators differ (kserve 0.21's classes cannot be read or written by the client of kubernetes 37), what is
newer than the installed package could not be said, and importing kserve takes a second and a model server's
dependencies. The tests read every object back through these models, and check it against the CRDs' schemas, instead.
"""

from latentry_operator.render.manifest import Manifest
from latentry_operator.render.objects import render

__all__ = ["Manifest", "render"]
