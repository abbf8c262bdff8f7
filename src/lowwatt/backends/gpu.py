"""NVIDIA's GPUs, through onnxruntime: its CUDA kernels, and TensorRT's engines."""

from __future__ import annotations

from typing import Any

from lowwatt.backends.base import BackendStatus, module_status
from lowwatt.backends.onnxruntime import OnnxRuntimeBackend
from lowwatt.errors import ToolError

_HOW = "pip install onnxruntime-gpu, in place of onnxruntime, on a machine with an NVIDIA GPU and its driver"


class CudaBackend(OnnxRuntimeBackend):
    """As onnxruntime, on the GPU. What the GPU has no kernel for is refused, not left to the CPU without a word."""

    name = "cuda"
    providers: tuple[Any, ...] = ("CUDAExecutionProvider",)

    def _create(self, path: str, options: Any) -> Any:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        session = super()._create(path, options)
        if self._provider() not in session.get_providers():  # onnxruntime only warns where a library is missing
            why = f"onnxruntime opened the model on {', '.join(session.get_providers())}"
            raise ToolError(f"the {self.name} backend does not start", why=why, hint="its log on stderr says why")
        return session

    @classmethod
    def _provider(cls) -> str:
        first = cls.providers[0]
        return str(first if isinstance(first, str) else first[0])

    @classmethod
    def status(cls) -> BackendStatus:
        """Whether onnxruntime was built for it. Its libraries and the GPU show when a network is opened."""
        found = module_status(cls.name, "onnxruntime", _HOW)
        if not found.usable:
            return found
        import onnxruntime

        if cls._provider() in onnxruntime.get_available_providers():
            return found
        return BackendStatus(cls.name, False, f"this onnxruntime has no {cls._provider()}", _HOW)


class TensorRtBackend(CudaBackend):
    """TensorRT's engines, INT8 by the file's own QDQ; what TensorRT does not take runs on CUDA's kernels.

    It takes graphs of scheme tensorrt (symmetric, weights by channel); the engine is built when the network is opened.
    """

    name = "tensorrt"
    providers = (("TensorrtExecutionProvider", {"trt_int8_enable": True}), "CUDAExecutionProvider")
