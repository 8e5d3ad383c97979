"""Unpaired translation between source and target slices, a CycleGAN (paper 2.1, eq. 1-4)."""
