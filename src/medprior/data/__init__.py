"""Scans, readers, the catalog, the pixel store, splits and phantoms."""
