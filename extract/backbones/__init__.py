"""Networks that torchvision and timm lack, a file each, under the parameter names of their public checkpoints.

Each file has
    build(channels) -> nn.Module: float (N, channels, [s,] h, w), normalised -> embedding (N, D); no classifier inside
    from_checkpoint(state) -> state: public names (of all known ports) to these, classifier left out; what is unknown stays
    PREPROCESSING, KIND ("image", "video" or "sound") and CLIP_FRAMES (pictures or flow fields in a clip; 1 unless "video")

All can be followed by torch.fx, so that they can be cut at a node and their batch norm folded. Nothing is done in place:
it would change the maps that a cut returns.
"""
