"""From what a study measured to what can be said of it."""
