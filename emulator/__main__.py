"""`python -m emulator` is `wirelab`."""

import sys

from emulator.cli import main

sys.exit(main())
