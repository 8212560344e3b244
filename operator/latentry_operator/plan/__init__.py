"""From a LatentModel and its bundle to what must run. Pure: no clock, no I/O, nothing that talks to anything."""
