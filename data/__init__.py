"""What goes in, and what lies between the stages; imports nothing else of ours.

Legend, used everywhere: N batch, V videos, T steps, K clips, D features, C classes.
"""
