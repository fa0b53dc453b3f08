"""Networks: where they come from, their weights, and where they are cut."""
