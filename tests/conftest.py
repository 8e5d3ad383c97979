"""What all tests share."""

import os

# small tensors: more threads only wait for each other, and a fixed number gives fixed bits
os.environ.setdefault("OMP_NUM_THREADS", "1")
