"""From what was observed to what a LatentModel's status says. Pure: no clock, no I/O."""
