"""Reads the headers of video containers (MP4, AVI, ...) without a decoder."""
