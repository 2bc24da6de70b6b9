"""The loops: pre-train, adapt; run folders, checkpoints, planning."""
