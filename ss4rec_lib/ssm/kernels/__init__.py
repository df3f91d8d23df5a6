"""Scan kernels, one file a backend. `ss4rec_lib.ssm.scan` is the only door to them."""
