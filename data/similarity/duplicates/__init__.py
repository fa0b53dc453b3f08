"""The command duplicates: pairs of similar videos within and across the parts of a split."""
