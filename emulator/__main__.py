"""`python -m emulator` is `wirelab`."""

import sys

from emulator.door import main

sys.exit(main())
