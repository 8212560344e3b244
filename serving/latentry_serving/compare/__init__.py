"""Do two versions' embeddings belong into one index? Pure numerics over paired vectors, with confidence bounds.

Three answers: the same space; another one that an orthogonal map leads back to the old; or one that needs a new index.
What users feel is cross-version recall: a query embedded by the new version against an index of the old version's
vectors. Similarity indices that ignore rotation (CKA, neighbour overlap within each version) stay at 1 when retrieval
breaks: they never decide alone. None of these knows lengths: their ratio is judged too, for indices
by inner product or distance. Source for the caution: Davari et al., "Reliability of CKA", arXiv 2210.16156.
"""
