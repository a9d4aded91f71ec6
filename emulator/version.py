"""The version of this package; its images carry the same."""

VERSION = "0.1.0"
