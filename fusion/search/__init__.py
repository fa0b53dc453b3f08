"""Search in a feature store: the videos, or the moments of videos, that are nearest to a video or to a
text."""
