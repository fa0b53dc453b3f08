"""Heads: networks that turn a video's feature sequence into class scores and one embedding.

A head is one file in this folder, with a `HeadSpec` (spec.py), and one line in HEADS (registry.py).
Sequences are padded at the end. The values of the padding never change a result.
"""
