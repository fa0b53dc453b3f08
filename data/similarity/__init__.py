"""How similar the videos of a store are: one vector for each video or each of its rows, and the
nearest of many vectors by their cosine."""
