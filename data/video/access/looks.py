"""What a packet can be, as the modules of the codecs tell it."""

# A picture that others may need. Each packet is exactly one displayed frame, or the module raises
# UnprovenError.
PLAIN = 0
# Decoding can begin with it: no picture after it in order of decoding needs one before it, except
# those that are LEADING.
START = 1
# No other picture needs it, so it need not be decoded unless it is wanted itself.
DISPOSABLE = 2
# It follows a START in order of decoding, precedes it in order of display, and may need pictures
# before the START.
LEADING = 4
