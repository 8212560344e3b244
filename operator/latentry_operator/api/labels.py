"""Labels on the objects the operator makes: written by the renderers, read back by the informers."""

from latentry_operator.api.base import GROUP

MODEL_LABEL = f"{GROUP}/model"
"""The LatentModel that an object belongs to."""
REVISION_LABEL = f"{GROUP}/revision"
"""The revision that an object belongs to; missing on what outlives revisions."""
POOL_LABEL = f"{GROUP}/gpu-pool"
"""On pods: the GPUPool whose devices they hold."""
ROLLOUT_ANNOTATION = f"{GROUP}/rollout"
"""On LatentModels: what somebody asks of the rollout, such as ``undo``."""
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "latentry"
