"""Bundles: built from graphs, sealed with digests, inspected, verified and compared.

Importing this package costs nothing: ``spec``, ``store`` and ``diff``'s contract rules need pydantic alone, graphs need
onnx and onnxruntime, and only ``torch_export`` and ``pt2`` import torch, when a torch artifact is given.
"""
