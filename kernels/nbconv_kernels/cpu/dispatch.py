"""How a kernel is compiled: to machine code when Python calls it, to something to inline when a kernel does.

Numba compiles a function that another one calls as if Python might call it too: it optimises it, generates
machine code and a wrapper for Python, and only then links its unoptimised form into the caller, where all of
it is optimised again. Since every kernel is inlined, the first time round is for nothing, and with kernels
five deep it is most of the time. A kernel met while another one is being compiled therefore stops at LLVM's
intermediate form. If Python should call it as well, it is compiled again, in full.
"""

from __future__ import annotations

import gc
from typing import Any

from numba.core import sigutils, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import _FunctionCompiler
from numba.core.registry import CPUDispatcher

__all__ = ["KernelDispatcher"]

_under_way: list[KernelDispatcher] = []  # kernels being compiled, the outermost first; under Numba's lock


class _PartCompiler(_FunctionCompiler):
    """Stops before machine code."""

    def _customize_flags(self, flags: Any) -> Any:
        flags.no_cpython_wrapper = True
        flags.no_compile = True
        return flags


class KernelDispatcher(CPUDispatcher):
    """A kernel: Numba's dispatcher, which compiles what is only to be inlined no further than needed."""

    def __init__(self, py_func: Any, targetoptions: dict[str, Any]) -> None:
        super().__init__(py_func, targetoptions=targetoptions)
        whole = self._compiler
        self._part_compiler = _PartCompiler(
            py_func, whole.targetdescr, targetoptions, whole.locals, whole.pipeline_class
        )
        self._parts: set[tuple[Any, ...]] = set()  # argument types compiled for inlining only

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What a caller needs to know of this kernel, which is compiled once for all values of constants."""
        _, folded = self.fold_argument_types(args, kws)
        return super().get_call_template([types.unliteral(argument) for argument in folded], {})

    @global_compiler_lock
    def compile(self, sig: Any) -> Any:
        """Compile for these argument types, unless that was done, and return what stands for the result."""
        arguments, return_type = sigutils.normalize_signature(sig)
        key = tuple(arguments)
        if _under_way:
            if key not in self.overloads:
                self._compile_part(key, return_type)
            return self.overloads[key].entry_point
        if key in self._parts:
            self._parts.remove(key)
            del self.overloads[key]
        # What a compilation makes it keeps to its end: looking for garbage among it is a tenth of the time.
        collecting = gc.isenabled()
        gc.disable()
        _under_way.append(self)
        try:
            return super().compile(sig)
        finally:
            _under_way.pop()
            if collecting:
                gc.enable()

    def _compile_part(self, arguments: tuple[Any, ...], return_type: Any) -> None:
        result = self._part_compiler.compile(arguments, return_type)
        library = result.library
        for needed in library._linking_libraries:
            library._final_module.link_in(needed._get_module_for_linking(), preserve=True)
        library._finalized = True  # as far as it goes: callers may link it
        result = result._replace(entry_point=object())  # Numba looks the function up by this
        self.targetctx.insert_user_function(result.entry_point, result.fndesc, [library])
        # Not add_overload, which would let Python call it.
        self.overloads[arguments] = result
        self._parts.add(arguments)
