"""The sidecar in front of Triton: forwards bytes untouched and reads along."""
