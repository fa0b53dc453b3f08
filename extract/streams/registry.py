"""All streams by name. Add a stream by adding a line."""

STREAMS = {
    "rgb": "extract.streams.rgb:RGB",
    "flow": "extract.streams.flow:Flow",
    "audio": "extract.streams.audio:Audio",
    "magnitude": "extract.streams.magnitude:Magnitude",
    "idt": "extract.streams.idt:ImprovedTrajectories",
}

FLOW_LENGTHS = "magnitude"  # the stream whose rows adaptive sampling follows
