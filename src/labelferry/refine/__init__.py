"""Self-training rounds, instability (eq. 7), selection and fusion (paper 2.3)."""
