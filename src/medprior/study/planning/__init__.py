"""What is asked of a study before it begins: its scans, its arms, its crops, its time."""
