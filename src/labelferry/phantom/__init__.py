"""A digital abdomen: random subjects with their organ labels, drawn as CT, T1, T2 and DWI."""
