"""Inputs and the data between the stages: videos, data sets, stores, scores. Imports no other
package of Reelbank.

Legend, used everywhere: N batch, V videos, T steps, K clips, D features, C classes.
"""
