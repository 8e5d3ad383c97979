"""The stages of the method, one file each."""
