"""Image files of every kind, and finding cohorts in files and folders."""
