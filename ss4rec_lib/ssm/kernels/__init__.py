"""Scan kernels, one file per backend, called only by `ss4rec_lib.ssm`."""
