"""Experiments: a run from settings to a recorded result, and the table of all that are recorded."""
