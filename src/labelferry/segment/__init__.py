"""The segmentation engine: the only room that knows nnU-Net's plans, networks and transforms."""
