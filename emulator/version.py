"""The version of Wirelab. Imports nothing."""

from typing import Final

VERSION: Final = "0.1.0"
