"""Random access to the frames of a video file: which frames can be decoded without those before
them, proven from the file's packets."""
