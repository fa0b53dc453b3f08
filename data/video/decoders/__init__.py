"""Decoders of video files: the scan of packets, PyAV, OpenCV, decord, seeking, and damage."""
