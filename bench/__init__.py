"""The measurements behind every figure in the README and in docs/performance.md."""
