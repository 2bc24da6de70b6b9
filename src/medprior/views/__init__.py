"""On-device views: geometry, intensity, masking, drawn per sample."""
