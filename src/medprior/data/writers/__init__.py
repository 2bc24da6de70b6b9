"""Writing what was predicted, in the space of the scan it was predicted from."""
