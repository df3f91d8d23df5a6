"""Batches of lessons and of training runs: `ss4rec batch EXPERIMENT.yaml`, see README.md."""
