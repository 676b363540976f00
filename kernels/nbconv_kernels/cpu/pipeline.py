"""The passes that compile a kernel: Numba's, without those that no kernel needs.

Numba's own pipeline also looks for closures, comprehensions, ``with``, stencils, whole-array arithmetic and
code for Python objects, again and again over every statement. A kernel has none of them: it indexes.

A *part* is a kernel on its way into the kernels that call it. Numba would optimise and compile it as if
Python might call it too; since all of it is inlined, and optimised where it ends up, it is only kept.
"""

from __future__ import annotations

from typing import Any

from llvmlite.binding import Linkage
from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager

_PASSES = (
    (untyped_passes.TranslateByteCode, "read the bytecode"),
    (untyped_passes.FixupArgs, "match the arguments"),
    (untyped_passes.IRProcessing, "find the life of variables"),
    (untyped_passes.RewriteSemanticConstants, "ndim and len are constants"),
    (untyped_passes.DeadBranchPrune, "drop branches that constants rule out"),
    (untyped_passes.GenericRewrites, "indices into tuples are constants"),
    (untyped_passes.ReconstructSSA, "one variable for each assignment"),
    (untyped_passes.DeadBranchPrune, "drop branches that constants rule out"),
    (typed_passes.NopythonTypeInference, "infer types"),
    (typed_passes.PreLowerStripPhis, "merge variables at joins"),
    (typed_passes.InlineOverloads, "inline functions of ours and Numba's that ask for it"),
    (typed_passes.NoPythonSupportedFeatureValidation, "refuse what cannot be compiled"),
    (typed_passes.IRLegalization, "end the life of variables"),
    (typed_passes.AnnotateTypes, "keep the types for inspection"),
    (typed_passes.NativeLowering, "write LLVM's form"),
    (typed_passes.NoPythonBackend, "gather the result"),
)


class KernelLibrary(JITCodeLibrary):
    """The modules of a kernel and of what it calls, which LLVM optimises together and only together."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout


class PartLibrary(KernelLibrary):
    """Modules as they were written: optimising them is the caller's affair."""

    def finalize(self) -> None:
        """Link what is called."""
        for needed in self._linking_libraries:
            self._final_module.link_in(needed._get_module_for_linking(), preserve=True)
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.external:
                function.linkage = "linkonce_odr"  # several callers may bring it, and none needs to keep it
        self._shared_module = self._final_module
        self._finalized = True


class KernelCompiler(CompilerBase):
    """Compiles a kernel for Python to call."""

    library: type[KernelLibrary] = KernelLibrary

    def compile_extra(self, func: Any) -> Any:
        """Compile the Python function."""
        self.state.library = self.library(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)

    def define_pipelines(self) -> list[PassManager]:
        """The one list of passes."""
        passes = PassManager("kernel")
        for step, purpose in _PASSES:
            passes.add_pass(step, purpose)
        passes.finalize()
        return [passes]


class PartCompiler(KernelCompiler):
    """Compiles a kernel for others to inline, no further than LLVM's intermediate form."""

    library = PartLibrary
