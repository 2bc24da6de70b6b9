"""Where the cells of a study are worked on: here one after the other, in processes, or on a cluster of machines."""
