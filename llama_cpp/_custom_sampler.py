"""Functions of Python among llama.cpp's samplers."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from llama_cpp import _abi, _library
from llama_cpp._errors import LlamaError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import _Pointer

    import numpy as np
    import numpy.typing as npt

    DataArrayPointer = _Pointer[_abi.llama_token_data_array]

_Numbers = ctypes.POINTER(ctypes.c_int32)
_NAME = ctypes.create_string_buffer(b"python")


class CustomSampler:
    """A function of Python among llama.cpp's samplers."""

    def __init__(self, apply_func: Callable[[DataArrayPointer], object]) -> None:
        """Wrap a function.

        Args:
            apply_func: called with a pointer to the ``llama_token_data_array``, which it changes.
                What it raises reaches the caller of :meth:`LlamaSampler.sample`.
        """
        self.apply_func = apply_func
        self.raised: BaseException | None = None
        self._interface = _abi.llama_sampler_i(
            name=_abi.llama_sampler_i_name(lambda _sampler: ctypes.addressof(_NAME)),
            apply=_abi.llama_sampler_i_apply(self._apply),
        )

    def get_sampler(self) -> int:
        """Return a new native ``struct llama_sampler *``, valid as long as this object is.

        It belongs to who asked: ``llama_sampler_chain_add`` takes it, or ``llama_sampler_free``.
        """
        lib = _library.load()
        return made_sampler(lib.llama_sampler_init(ctypes.byref(self._interface), None))

    def _apply(self, _sampler: int | None, array: DataArrayPointer) -> None:
        header = array.contents
        size, data = header.size, ctypes.addressof(header.data.contents)
        try:
            ids = _ids(data, size)
            largest = int(ids.max())
            self.apply_func(array)
            here = header.data and ctypes.addressof(header.data.contents)
            kept = 0 < header.size <= size and here == data
            if not kept or ids.min() < 0 or ids.max() > largest:
                raise ValidationError(  # noqa: TRY301 - the same way as what the function raises
                    f"a custom sampler left {header.size} tokens of {size}, or other ids or memory"
                )
        except BaseException as error:  # noqa: BLE001 - C is below on the stack
            self.raised = error
            # what comes after it in the chain shall find nothing that it would end the process for
            header.data = ctypes.cast(data, type(header.data))
            header.size = size
            _ids(data, size)[:] = 0


def _ids(data: int, size: int) -> npt.NDArray[np.int32]:
    """Return the ids of an array of ``llama_token_data`` where they are."""
    import numpy as np  # noqa: PLC0415 - import of the package is to be quick

    width = ctypes.sizeof(_abi.llama_token_data) // 4
    numbers = np.ctypeslib.as_array(ctypes.cast(data, _Numbers), (size * width,))
    return numbers[::width]


def made_sampler(sampler: int | None) -> int:
    """Return a sampler that llama.cpp has made; raise where it could not."""
    if sampler is None:
        raise LlamaError("llama.cpp could not make a sampler")
    return sampler
