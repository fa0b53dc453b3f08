"""Extraction on one or several devices, and in several processes that share the stores."""
