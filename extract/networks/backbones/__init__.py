"""Networks that torchvision and timm do not have, one file each, with the parameter names of their
public checkpoints.

Each file defines BACKBONE, which registry.py lists. torch.fx must be able to trace the network, to
cut it at a node and to fold its batch norm. It does nothing in place, which would change the maps
that a cut returns.
"""
