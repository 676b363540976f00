"""Global, shared and local memory, with every access checked against bounds and alignment.

Arrays lie in the middle of 2^40 bytes of their own, each at its own alignment to 16 bytes. Shared and local
memory begin with all bits set, so that a float read too early is NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv_kernels.cuda.emulator import compiled
from nbconv_kernels.cuda.emulator.errors import MemoryFaultError, PtxError
from nbconv_kernels.cuda.emulator.hazards import Hazards
from nbconv_kernels.cuda.emulator.types import GLOBAL, LOCAL_WINDOW, SHARED_WINDOW, Array

if TYPE_CHECKING:
    from nbconv_kernels.cuda.emulator.batch import Batch

__all__ = ["GlobalMemory", "Memory", "Traffic"]

_APART = 40
_WINDOWS = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "global": 0}


class _Room:
    """Bytes of one kind of memory, and how lanes' addresses lead there."""

    def __init__(self, content: Array, origin: int, limit: int, per_row: int, row: int) -> None:
        self.origin, self.limit, self.per_row, self.row = origin, limit, per_row, row
        self.bytes = content
        whole_words = content.nbytes // 4 * 4
        self.words = content[:whole_words].view(np.uint32) if content.ctypes.data % 4 == 0 else None

    def arguments(self, size: int) -> tuple[Array, int]:
        """The memory in the widest units that serve elements of ``size`` bytes, and their size."""
        if size >= 4 and self.words is not None:
            return self.words, 4
        return self.bytes, 1


class GlobalMemory:
    """The arrays of a launch, and the variables of the module.

    An array's address keeps the place of its memory between multiples of 16 bytes. The same memory given
    twice has one address.
    """

    def __init__(self) -> None:
        self.rooms: list[_Room] = []
        self._addresses: dict[tuple[int, int], int] = {}
        self.variables: dict[str, int] = {}

    def add(self, array: Array) -> int:
        """The address of an array, which must be contiguous."""
        key = (array.ctypes.data, array.nbytes)
        if key not in self._addresses or not array.nbytes:
            middle = GLOBAL + (len(self.rooms) << _APART) + (1 << (_APART - 1))
            origin = middle + array.ctypes.data % 16
            content = array.reshape(-1).view(np.uint8)
            self.rooms.append(_Room(content, origin, content.nbytes, 1 << 62, 0))
            self._addresses[key] = origin
        return self._addresses[key]

    def number(self, address: int) -> int:
        """Which array an address belongs to, or would if that were longer; -1 if to none."""
        number = (address - GLOBAL) >> _APART
        return number if 0 <= number < len(self.rooms) else -1


class Traffic:
    """Counts of memory accesses, by name."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, name: str, count: int) -> None:
        """Count on."""
        self.counts[name] = self.counts.get(name, 0) + int(count)


class Memory:
    """All memory of a batch of blocks."""

    def __init__(
        self,
        global_memory: GlobalMemory,
        shared: tuple[dict[str, int], int],
        local: tuple[dict[str, int], int],
        parameters: dict[str, Any],
        hazards: Hazards | None,
        traffic: Traffic | None,
    ) -> None:
        self.global_memory, self.parameters = global_memory, parameters
        self.hazards, self.traffic = hazards, traffic
        self._layout = {"shared": shared, "local": local}
        self._rooms: dict[str, _Room] = {}

    def address_of(self, name: str, space: str) -> int:
        """The address of a variable."""
        if space == "global":
            return self.global_memory.variables[name]
        if space in self._layout:
            return self._layout[space][0][name]
        raise PtxError(f"the address of the parameter {name} is not modelled")

    def _own(self, batch: Batch, space: str) -> _Room:
        """Shared or local memory, made when first touched."""
        if space not in self._rooms:
            size = self._layout[space][1]
            per_row = batch.per_block if space == "shared" else 1
            row = -(-max(size, 1) // 16) * 16
            content = np.full(batch.count // per_row * row, 0xFF, np.uint8)
            self._rooms[space] = _Room(content, 0, size, per_row, row)
        return self._rooms[space]

    def _space(self, space: str | None, addresses: Array, lanes: Array, text: str) -> tuple[str, Array]:
        """The memory that generic addresses lead to, and the addresses within it."""
        if space is not None:
            return space, addresses
        window = addresses[lanes] >> 60
        if (window != window[0]).any() or not 0 <= window[0] <= 2:
            raise MemoryFaultError(f"generic addresses lead to no one kind of memory: {text}")
        space = ("global", "shared", "local")[int(window[0])]
        return space, addresses - np.int64(_WINDOWS[space])

    def load(
        self,
        batch: Batch,
        space: str | None,
        addresses: Array,
        lanes: Array,
        dtype: np.dtype[Any],
        count: int,
        text: str,
    ) -> list[Array]:
        """``count`` neighbouring elements for each of ``lanes``: arrays over all lanes, undefined in others.

        Raises:
            MemoryFaultError: for an access out of bounds or not aligned to its size.
        """
        units, size = (count * dtype.itemsize // 4, 4) if dtype.itemsize >= 4 else (count * dtype.itemsize, 1)
        out = np.empty((batch.count, units), np.uint32 if size == 4 else np.uint8)
        self._access(compiled.load, batch, space, addresses, lanes, out, count * dtype.itemsize, text)
        values = out.view(dtype)
        if count == 1:
            return [values.reshape(batch.count)]
        return list(np.ascontiguousarray(values.T))

    def store(
        self, batch: Batch, space: str | None, addresses: Array, lanes: Array, values: list[Array], text: str
    ) -> None:
        """Write neighbouring elements for each of ``lanes``; ``values`` are over all lanes, or scalars.

        Raises:
            MemoryFaultError: for an access out of bounds or not aligned to its size.
        """
        dtype = values[0].dtype
        given = np.empty((batch.count, len(values)), dtype)
        for j, value in enumerate(values):
            given[:, j] = value
        given = given.view(np.uint32 if dtype.itemsize >= 4 else np.uint8)
        self._access(
            compiled.store, batch, space, addresses, lanes, given, len(values) * dtype.itemsize, text
        )

    def claim(self, batch: Batch, addresses: Array, lanes: Array, nbytes: int, text: str) -> None:
        """What an asynchronous copy does to its place in shared memory at once: nobody may rely on it."""
        nothing = np.full((batch.count, nbytes // 4), 0xFFFFFFFF, np.uint32)
        self._access(compiled.store, batch, "shared", addresses, lanes, nothing, nbytes, text, counted=False)

    def _access(
        self,
        copy: Any,
        batch: Batch,
        space: str | None,
        addresses: Array,
        lanes: Array,
        elements: Array,
        nbytes: int,
        text: str,
        counted: bool = True,
    ) -> None:
        if not lanes.size:
            return
        space, addresses = self._space(space, addresses, lanes, text)
        storing = copy is compiled.store
        for room, some in self._rooms_of(batch, space, addresses, lanes, storing, text):
            memory, unit = room.arguments(elements.itemsize)
            given = elements if elements.itemsize == unit else elements.view(np.uint8)
            limit = room.limit // unit * unit if unit == 4 else room.limit
            fault = copy(
                memory,
                addresses,
                some,
                room.origin,
                limit,
                room.per_row,
                room.row // unit,
                given.shape[1],
                nbytes,
                given,
            )
            if fault >= 0:
                self._fail(batch, space, room, int(addresses[fault]), int(fault), nbytes, storing, text)
            if self.hazards is not None and space != "local":
                self.hazards.watch(batch, room, addresses, some, nbytes, storing, space, text)
            if self.traffic is not None and counted:
                self._count(space, addresses, some, nbytes, storing)

    def _rooms_of(
        self, batch: Batch, space: str, addresses: Array, lanes: Array, storing: bool, text: str
    ) -> list[tuple[_Room, Array]]:
        """Which memory each lane's address lies in."""
        if space != "global":
            return [(self._own(batch, space), lanes)]
        rooms = self.global_memory.rooms
        numbers = (addresses[lanes] - GLOBAL) >> _APART
        first = int(numbers[0])
        present = [first] if (numbers == first).all() else [int(n) for n in np.unique(numbers)]
        for n in present:
            if not 0 <= n < len(rooms):
                lane = int(lanes[numbers == n][0])
                what = "store to" if storing else "load from"
                where = (
                    "a null pointer"
                    if abs(int(addresses[lane])) < 1 << 32
                    else f"address {int(addresses[lane]):#x}, no array"
                )
                raise MemoryFaultError(f"{what} {where} by {batch.place(lane)}: {text}")
        if len(present) == 1:
            return [(rooms[first], lanes)]
        return [(rooms[n], lanes[numbers == n]) for n in present]

    def _fail(
        self,
        batch: Batch,
        space: str,
        room: _Room,
        address: int,
        lane: int,
        nbytes: int,
        storing: bool,
        text: str,
    ) -> None:
        at = address - room.origin
        what = "store" if storing else "load"
        where = f"byte {at} of {room.limit} of {space} memory"
        if space == "global":
            which = self.global_memory.number(address)
            where = f"byte {at} of array {which}, of {room.limit} bytes"
        wrong = "out of bounds" if at < 0 or at + nbytes > room.limit else "misaligned"
        raise MemoryFaultError(f"{wrong}: {nbytes}-byte {what} at {where} by {batch.place(lane)}: {text}")

    def _count(self, space: str, addresses: Array, lanes: Array, nbytes: int, storing: bool) -> None:
        assert self.traffic is not None
        name = f"{space} {'store' if storing else 'load'}"
        if space == "shared":
            requests, wavefronts = compiled.banks(addresses, lanes, nbytes)
            self.traffic.add(f"{name} wavefronts", wavefronts)
        elif space == "global":
            requests, sectors = compiled.sectors(addresses, lanes, nbytes)
            self.traffic.add(f"{name} sectors", sectors)
            self.traffic.add(f"{name} bytes", nbytes * lanes.size)
        else:
            return
        self.traffic.add(f"{name} requests", requests)
