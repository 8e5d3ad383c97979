"""Experiments on the digital phantom: the demo, and the ladder of the method's steps."""
