"""`python -m reelbank`, once installed."""

import sys

from reelbank import main

sys.exit(main())
