"""One module per volume format, each with `opened(path, root) -> Stored`; what they share is in `canonical`."""
