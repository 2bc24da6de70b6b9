"""What the reader of rasters needs beside Pillow: 16-bit colour, and the metadata that makes pages a volume."""
