"""The report of a run: one HTML file that opens by double click and needs no network."""
