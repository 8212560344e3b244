"""Has a Triton in explicit mode load every model of the bundle with the deployment's settings, and watches them."""

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import REPOSITORY_FOLDER
from latentry_serving.contract.metrics import LoadOutcome
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.tap_config import Address, LoadOverrides
from latentry_serving.tap.bundle_source import BundleSource, Stopped
from latentry_serving.tap.triton_http import TritonHttp, TritonRefused, TritonUnreachable
from latentry_serving.triton.backoff import Backoff

if TYPE_CHECKING:
    from latentry_serving.triton.model_config import ModelConfig

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How soon it is seen that Triton was started again and has no models."""
_ANSWER_SECONDS = 10.0
_LOAD_SECONDS = 1800.0
"""TensorRT may build engines for many minutes while a model loads."""
_READY = "READY"


class ModelLoader:
    """The models of one bundle in one Triton. ``settle`` runs in a thread of its own; the rest may be read anywhere."""

    def __init__(self, source: BundleSource, overrides: LoadOverrides, triton: Address, stop: threading.Event) -> None:
        self._source = source
        self._overrides = overrides
        self._triton = triton
        self._stop = stop
        self._operations = source.manifest.operations_by_model
        self._configs: dict[str, ModelConfig] = {}
        self._as_asked: set[str] = set()
        self._problem = "Triton was not asked yet"
        self._backoff = Backoff(first_seconds=LOOK_SECONDS)
        self._failures = 0
        self._call: TritonHttp | None = None
        self.loaded: dict[str, bool] = dict.fromkeys(self._operations, False)
        """Triton model -> whether it was ready, as asked, at the last look."""
        self.loads: Counter[tuple[Operation, LoadOutcome]] = Counter()
        """Requests to Triton to load a model."""

    @property
    def complete(self) -> bool:
        """Whether Triton had every model at the last look."""
        return not self._problem

    def reasons(self) -> list[str]:
        """Why not every operation can be served; empty when all can."""
        problem = self._problem
        return [problem] if problem else []

    def abort(self) -> None:
        """Gives up the call to Triton that is under way."""
        if (call := self._call) is not None:
            call.abort()

    def settle(self) -> float:
        """Looks at Triton once and has it load what is missing.

        Returns:
            Seconds after which to look again.

        Raises:
            Stopped: the tap stops.
        """
        try:
            self._look()
        except TritonUnreachable as error:
            if self._stop.is_set():
                raise Stopped from error
            self._problem = f"models not loaded: {error}"
            return LOOK_SECONDS
        except (InvalidInput, OSError, TritonRefused) as error:
            self._failures += 1
            self._problem = str(error)
            log.warning("models not loaded", extra={"reason": self._problem, "failures": self._failures})
            return self._backoff.delay_seconds(self._failures)
        self._problem, self._failures = "", 0
        return LOOK_SECONDS

    def _look(self) -> None:
        if not self._configs:
            self._configs = _configs(self._source, self._overrides)
        with self._calling(_ANSWER_SECONDS) as triton:
            states = triton.repository()
            for model in self._operations:
                self.loaded[model] = states.get(model) == _READY and self._runs_as_asked(triton, model)
        for model, operation in self._operations.items():
            if not self.loaded[model]:
                self._load(model, operation)

    def _runs_as_asked(self, triton: TritonHttp, model: str) -> bool:
        """A tap that was started again finds the models its predecessor loaded, and leaves them alone."""
        if model not in self._as_asked and runs_as(triton.model_config(model), self._configs[model]):
            self._as_asked.add(model)
        return model in self._as_asked

    def _load(self, model: str, operation: Operation) -> None:
        self._as_asked.discard(model)
        self._problem = f"Triton is loading {model}"
        log.info("loading", extra={"model": model})
        try:
            with self._calling(_LOAD_SECONDS) as triton:
                triton.load(model, self._configs[model].to_json())
        except TritonRefused as error:
            self.loads[operation, LoadOutcome.FAILED] += 1
            raise TritonRefused(f"Triton cannot load {model}: {error}") from error
        self.loads[operation, LoadOutcome.OK] += 1
        self._as_asked.add(model)
        self.loaded[model] = True

    def _calling(self, silence_seconds: float) -> TritonHttp:
        self._call = TritonHttp(self._triton, silence_seconds=silence_seconds)
        if self._stop.is_set():
            raise Stopped
        return self._call


def runs_as(running: dict[str, Any], wanted: "ModelConfig") -> bool:
    """Whether a model that Triton runs has the deployment's settings.

    Args:
        running: Triton's answer to ``/v2/models/<model>/config``.
        wanted: with the settings applied.
    """
    groups = running.get("instance_group") or [{}]
    batching = running.get("dynamic_batching") or {}
    delay_us = wanted.dynamic_batching.max_queue_delay_us if wanted.dynamic_batching else 0
    return (
        groups[0].get("count") == wanted.instances.count
        and running.get("max_batch_size", 0) == wanted.max_batch_size
        and int(batching.get("max_queue_delay_microseconds", 0)) == delay_us
    )


def _configs(source: BundleSource, overrides: LoadOverrides) -> "dict[str, ModelConfig]":
    """Every model's configuration from the bundle, with the deployment's settings.

    Raises:
        InvalidInput: it cannot be read, or a setting does not fit it.
    """
    # Imported here: protobuf and Triton's message types take 14 MB, which a tap that loads nothing can do without.
    from latentry_serving.triton.local_repository import RuntimeOverrides, override
    from latentry_serving.triton.model_config import CONFIG_FILE, ModelConfig

    changes = RuntimeOverrides(
        instances=overrides.instances,
        max_batch_size=overrides.max_batch_size,
        max_queue_delay_us=overrides.max_queue_delay_us,
    )
    configs = {}
    for model in source.manifest.operations_by_model:
        path = source.directory / REPOSITORY_FOLDER / model / CONFIG_FILE
        config = ModelConfig.from_pbtxt(path.read_text(encoding="utf-8"), subject=str(path))
        configs[model] = override(config, changes)
    return configs
