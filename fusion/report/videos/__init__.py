"""The report's sections about single videos: the map of the bank, and the list of all evaluated
videos. The page's script draws them from compact data."""
