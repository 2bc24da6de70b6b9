"""What is told of scans: labels, patients and splits from a table; masks, boxes and reports beside images."""
