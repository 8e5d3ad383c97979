"""Image files: NIfTI, and finding cohorts in folders. DICOM, BIDS and others will enter here."""
