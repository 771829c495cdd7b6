"""Data sets: clips, MVTec AD, a user's own image folder, the synthetic walkway; their preparation, splits and leak."""
