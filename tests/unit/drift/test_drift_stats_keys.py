"""Repeated vectors are counted where they repeat, not where drifted values leave the reference's range."""

import numpy as np
import pytest

from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.windows import Window

SIZE = 100


@pytest.mark.parametrize("dimensions", [1, 2, 16])
def test_values_beyond_the_reference_are_no_duplicates(dimensions: int) -> None:
    rng = np.random.default_rng(0)
    reference = rng.gamma(9.0, size=(2000, dimensions)).astype(np.float32)
    profile = fit_tensor("t", reference, FitSettings(window=SIZE))
    far = rng.gamma(9.0, size=(SIZE, dimensions)).astype(np.float32) * 4 + 40
    (filled,) = Window(profile.kernel(), SIZE).add(far, 0.0)
    assert filled.duplicates <= 5  # one dimension has about 10,000 values to tell apart: 100 of them meet now and then
    far[50:] = far[:50]
    (filled,) = Window(profile.kernel(), SIZE).add(far, 0.0)
    assert filled.duplicates >= 50
