"""How much slower than a quiet machine one may be on which the tests still pass."""

from __future__ import annotations

PATIENCE = 4.0
"""Time limits in tests are those of a quiet machine times this: the machine may be shared.

How fast things really are is measured by tests.bench and tests.lab, never asserted by a test.
"""
