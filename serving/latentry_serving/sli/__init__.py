"""What the tap measures, without any I/O: calls, their classification, and the figures kept about them."""
