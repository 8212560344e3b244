"""The one-machine body: a plan carried out as local processes, Triton and the tap, in place of manifests."""
