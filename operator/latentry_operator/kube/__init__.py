"""The only package that talks to the API server: connection, client, informers, apply, prune, status, events, Lease."""
