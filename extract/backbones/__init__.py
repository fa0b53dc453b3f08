"""Networks that torchvision and timm lack, under the parameter names of their public checkpoints."""
