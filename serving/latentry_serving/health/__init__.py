"""How a model of its family is doing: encoder vectors, reconstructions, posteriors, each against the bundle's baseline.

Pure numerics (numpy and scipy). For each family an accumulator of one window (``EncoderWindow``, ``AutoencoderWindow``,
``VaeWindow``; one vectorised update per batch) and a baseline fitted from reference data in their time order, which
judges a window and answers with a ``HealthReport``: per measure the value, what the reference shows, a p-value and a
reason. Nothing here compares with a fixed threshold: p-values go to the rules that share out the false-alarm budget.
"""
