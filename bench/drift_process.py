"""A process that does nothing but watch: ``python -m bench.drift_process PROFILE VECTORS.npy``, for its memory.

It imports what the tap's analysis process imports, and is to be started with the settings of that one
(``latentry_serving.tap.analysis.child_environment``). Prints one line of JSON: seconds to load the profile, resident
memory in MB after some windows.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import psutil

import latentry_serving.tap.analysis_worker
import latentry_serving.tap.monitor  # noqa: F401 - for its memory
from latentry_serving.drift.detector import Detector
from latentry_serving.drift.profile import Profile
from latentry_serving.drift.types import Settings

_BATCH = 256


def main(folder: Path, vectors: Path) -> None:
    """Loads the profile three times (the fastest counts: files are then in the page cache) and watches."""
    loads = []
    for _ in range(3):
        cpu, wall = time.process_time(), time.perf_counter()
        profile = Profile.load(folder)
        loads.append((time.process_time() - cpu, time.perf_counter() - wall))
    (name,) = profile.tensors
    detector = Detector(profile, Settings(window=profile.tensors[name].window, expected_run_time_s=1e6, max_wait_s=1e4))
    for start in range(0, len(np.load(vectors, mmap_mode="r")), _BATCH):
        rows = np.load(vectors, mmap_mode="r")[start : start + _BATCH]  # anew: what is mapped counts as resident
        detector.update(name, np.array(rows), float(start))
        del rows
    process = psutil.Process()
    memory = process.memory_info()
    print(
        json.dumps(
            {
                "load_cpu_s": min(cpu for cpu, _ in loads),
                "load_s": min(wall for _, wall in loads),
                "resident_mb": memory.rss / 1e6,
                "resident_private_mb": (memory.rss - memory.shared) / 1e6,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
