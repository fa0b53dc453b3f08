"""Video files: selection of frames, and decoding of pictures and sound in separate processes."""
