"""What the source labels say about organs, and how plausible a label map is against it."""
