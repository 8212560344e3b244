"""Calibrated drift detection: statistics with known nulls, rules with a stated false-alarm rate. Pure: no clock, no I/O
but loading and saving a profile."""
