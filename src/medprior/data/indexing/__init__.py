"""From a folder to rows: files found, each looked at once in a worker process, series put together."""
