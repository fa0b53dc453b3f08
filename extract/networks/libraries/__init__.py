"""Networks of torchvision, of timm and of a user's own file."""
