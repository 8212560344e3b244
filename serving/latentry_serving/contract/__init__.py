"""What the two packages agree on: names, units, manifests and configuration, as light typed values.

The operator may import this package and nothing else of ``latentry_serving``. It therefore imports only the
standard library and pydantic.
"""
