"""Multi-domain matching: carry labels from the sequences that work to the others (paper 2.2)."""
