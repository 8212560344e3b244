"""The resources users write: their types, defaults, checks, loading from YAML and CRD generation.

Nothing here talks to a cluster; the only file access is :mod:`latentry_operator.api.load`, which reads YAML files.
"""
