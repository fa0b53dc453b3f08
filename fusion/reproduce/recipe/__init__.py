"""The recipe of a published system as `reproduce` reads it."""
