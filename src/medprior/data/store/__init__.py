"""Pixels decoded once: one array for a whole catalog, from which every batch is cut."""
