"""Side by side with peers, in one run. Figures are ratios: machines differ, and may be shared."""
