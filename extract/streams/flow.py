"""Optical flow between a picture and the next one (K. Simonyan, A. Zisserman, NIPS 2014)."""

from dataclasses import replace

from torch import Tensor

from reelbank.extract.flow.methods import FlowMethod, mirrored, to_uint8
from reelbank.extract.networks.preprocessing import RGB_ORDER, Preprocessing
from reelbank.extract.streams.base import Stream

# Fields that an image network reads at once: 5 for TSN's network, otherwise 10 as in two-stream
# work.
STACKS, USUAL_STACK = {"bn_inception": 5}, 10


class Flow(Stream):
    features_version = 2
    reads_pairs = True
    uses_flow = True
    is_of_flow = True
    channels = 2
    stacks_items = True

    def usual_stack(self, extractor: str) -> int:
        return STACKS.get(extractor, USUAL_STACK)

    def items(self, pictures: Tensor, following: Tensor | None, flow: FlowMethod | None) -> Tensor:
        assert flow is not None and following is not None
        return self.items_of_flow(flow(pictures, following))

    def items_of_flow(self, fields: Tensor) -> Tensor:
        return to_uint8(fields)

    def mirrored(self, items: Tensor) -> Tensor:
        return mirrored(items)

    def for_network(self, preprocessing: Preprocessing) -> Preprocessing:
        """Preprocessing as in TSN: 128, which means zero motion, becomes 0 in all channels. The
        standard deviation is the mean of those of the weights' channels."""
        spread = sum(preprocessing.std) / len(preprocessing.std)
        # Presets of weights describe RGB pictures. The pictures that flow is computed from are
        # always antialiased.
        return replace(
            preprocessing,
            mean=(128 / 255,),
            std=(spread,),
            order=RGB_ORDER,
            antialias=True,
            fill=None,
        )
