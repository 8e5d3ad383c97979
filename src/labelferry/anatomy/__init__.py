"""Anatomy space: what CT and MRI share (paper 2.1), and the working grid that images live on."""
