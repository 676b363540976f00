"""What the emulator raises."""

__all__ = ["DeadlockError", "MemoryFaultError", "PtxError", "UnknownInstructionError"]


class PtxError(Exception):
    """A kernel that cannot be run, or that must not run so on a GPU."""


class UnknownInstructionError(PtxError):
    """An instruction, or a modifier of one, that the emulator has no model of."""


class MemoryFaultError(PtxError):
    """An access out of bounds, at an address that is no multiple of its size, or to no memory at all."""


class DeadlockError(PtxError):
    """Lanes that wait for others which never come."""
