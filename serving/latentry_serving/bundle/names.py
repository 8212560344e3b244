"""Graphs under other names, subgraphs included. Pure."""

from collections.abc import Iterator

from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The branches of an If, the body of a Loop or Scan."""
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def prefixed(graph: GraphProto, prefix: str) -> GraphProto:
    """A copy in which every name of a node and a value starts with ``prefix``; empty ones, left-out inputs, stay empty.

    All names of all subgraphs change alike, so each means what it meant: a value of its own graph or, as ONNX allows,
    of a graph around it. ``onnx.compose.add_prefix_graph`` leaves weights that a subgraph reads from outside unrenamed.
    """
    copy = GraphProto()
    copy.CopyFrom(graph)
    _prefix(copy, prefix)
    return copy


def _prefix(graph: GraphProto, prefix: str) -> None:
    weights = [*graph.initializer, *(part for t in graph.sparse_initializer for part in (t.values, t.indices))]
    values = [*graph.input, *graph.output, *graph.value_info]
    named: list[NodeProto | TensorProto | ValueInfoProto] = [*graph.node, *weights, *values]
    for one in named:
        if one.name:
            one.name = prefix + one.name
    for node in graph.node:
        for ends in (node.input, node.output):
            ends[:] = [end and prefix + end for end in ends]
        for subgraph in subgraphs(node):
            _prefix(subgraph, prefix)
