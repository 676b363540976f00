"""How a kernel is compiled: to machine code when Python calls it, to something to inline when a kernel does.

Numba compiles a function that another one calls as if Python might call it too: it optimises it, generates
machine code and a wrapper for Python, and only then links its unoptimised form into the caller, where all of
it is optimised again. Since every kernel is inlined, the first time round is for nothing, and with kernels
five deep it is most of the time. What a kernel calls is therefore compiled as a part (``pipeline``). Parts
are kept apart from what Python calls: so a caller's machine code, and with it the last bits, does not depend
on what was called before it was compiled.
"""

from __future__ import annotations

import gc
from typing import Any

from numba.core import sigutils, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import _FunctionCompiler
from numba.core.registry import CPUDispatcher
from numba.core.typing import make_concrete_template

from nbconv_kernels import forks
from nbconv_kernels.cpu.pipeline import KernelCompiler, PartCompiler

__all__ = ["KernelDispatcher"]

forks.wait_for(global_compiler_lock)  # the child could not go on with what another thread was compiling


class _AsPart(_FunctionCompiler):
    """Stops before machine code."""

    def _customize_flags(self, flags: Any) -> Any:
        flags.no_cpython_wrapper = True
        flags.no_compile = True
        return flags


class KernelDispatcher(CPUDispatcher):
    """A kernel: Numba's dispatcher, which compiles what is only to be inlined no further than needed."""

    def __init__(self, py_func: Any, targetoptions: dict[str, Any]) -> None:
        super().__init__(py_func, targetoptions=targetoptions, pipeline_class=KernelCompiler)
        whole = self._compiler
        self._as_part = _AsPart(py_func, whole.targetdescr, targetoptions, whole.locals, PartCompiler)
        self._parts: dict[tuple[Any, ...], Any] = {}  # by argument types, what other kernels inline

    @global_compiler_lock
    def compile(self, sig: Any) -> Any:
        """Compile for Python and these argument types, unless that was done, and return the function."""
        # What a compilation makes it keeps to its end: looking for garbage among it is a tenth of the time.
        collecting = gc.isenabled()
        gc.disable()
        try:
            return super().compile(sig)
        finally:
            if collecting:
                gc.enable()

    # What Numba asks of a callee while it compiles the caller.

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """How a call is typed; a kernel is compiled once for all values of constants."""
        signature, folded = self.fold_argument_types(args, kws)
        plain = tuple(types.unliteral(argument) for argument in folded)
        name = self.py_func.__name__
        template = make_concrete_template(name, key=name, signatures=[self._part(plain).signature])
        return template, signature, plain, {}

    def get_overload(self, sig: Any) -> Any:
        """What stands for the function of these argument types."""
        return self._part(sig).entry_point

    def get_compile_result(self, sig: Any) -> Any:
        """The library and the description of the function of these argument types."""
        return self._part(sig)

    def _part(self, sig: Any) -> Any:
        arguments, return_type = sigutils.normalize_signature(sig)
        known = self._parts.get(tuple(arguments))
        if known is not None:
            return known
        result = self._as_part.compile(tuple(arguments), return_type)
        result.library.finalize()
        result = result._replace(entry_point=object())  # Numba looks the function up by this
        self.targetctx.insert_user_function(result.entry_point, result.fndesc, [result.library])
        self._parts[tuple(arguments)] = result
        return result
