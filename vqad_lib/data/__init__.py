"""Data sets: UCSD Ped2, the synthetic walkway and a user's own image folder; their preparation, splits and leak."""
