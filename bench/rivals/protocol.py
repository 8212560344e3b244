"""What every rival's script speaks: ``python run_NAME.py REQUEST.json``. Imports nothing of the project.

The request names a method, files ``reference`` [n, d] and ``windows`` [runs, m, w, d], the file for the answer, and
perhaps ``threshold`` and ``most_s``. Each window gets one score, larger the more it differs from the reference; a run
starts in the fitted state and ends after the first score above the threshold. The CPU seconds are taken here, so that
starting Python and loading arrays count for nobody. After ``most_s`` seconds of CPU no further window is begun.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

Array = np.ndarray
Score = Callable[[Array], float]
Method = Callable[[Array], Callable[[], Score]]
"""From the reference [n, d] to a function that begins a run; that gives a function that scores a window [w, d]."""


def serve(methods: Mapping[str, Method]) -> None:
    """Answers one request."""
    request = json.loads(Path(sys.argv[1]).read_text())
    warnings.simplefilter("ignore")
    most, threshold = request["most_s"] or float("inf"), request["threshold"] or float("inf")
    started = time.process_time()
    begin = methods[request["method"]](np.load(request["reference"]))
    fitted = time.process_time()
    runs: list[list[float]] = []
    for windows in np.load(request["windows"], mmap_mode="r"):
        score, scores = begin(), []
        for window in windows:
            if time.process_time() - fitted > most:
                break
            scores.append(float(score(np.array(window))))
            if scores[-1] > threshold:
                break
        runs.append(scores)
    spent = time.process_time() - fitted
    Path(request["out"]).write_text(json.dumps({"runs": runs, "fit_s": fitted - started, "spent_s": spent}))
