"""The loop: from decoded pictures and sound to features."""
