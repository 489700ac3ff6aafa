"""A stand-in Edge TPU for tests: a delegate built with the system's compiler, models compiled for it, a sysfs tree."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import tflite_builder as tflite
from ai_edge_litert import schema_py_generated as schema

from edge_classifierd.inference.edgetpu.devices import ROOT
from edge_classifierd.model.bundle import ModelBundle, load_bundle

SOURCE = Path(__file__).parent / "native" / "stand_in_delegate.c"
FRESH, LOADED = ("1a6e", "089a"), ("18d1", "9302")


def find_compiler() -> str | None:
    """The system's C compiler."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build_delegate(folder: Path) -> Path:
    """The delegate's library; skips the test where there is no compiler."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("needs a C compiler for the stand-in delegate")
    library = folder / "libstandin.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE)],
        check=True,
    )
    return library


def compiled(data: bytes) -> bytes:
    """The model with an `edgetpu-custom-op` before its first operator; the delegate copies its input to its output."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:  # kept behind the flatbuffer, where packing would lose it
            buffer.data = np.frombuffer(data[buffer.offset : buffer.offset + buffer.size], np.uint8)
            buffer.offset = buffer.size = 0
    graph = model.subgraphs[0]
    inner = int(graph.inputs[0])
    outer = schema.TensorT()
    outer.name, outer.buffer = b"tpu_input", 0
    for name in ("shape", "shapeSignature", "type", "quantization"):
        setattr(outer, name, getattr(graph.tensors[inner], name))
    graph.tensors.append(outer)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = b"edgetpu-custom-op", 1
    model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [len(graph.tensors) - 1], [inner]
    graph.operators.insert(0, operator)
    graph.inputs = [len(graph.tensors) - 1]
    for signature in model.signatureDefs or []:
        signature.inputs[0].tensorIndex = len(graph.tensors) - 1
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()) + tflite.zipped(_archived(data))


def model_pair(folder: Path) -> tuple[ModelBundle, ModelBundle]:
    """A classifier of one pixel into red, green and blue, compiled for the stand-in, and its CPU twin."""
    graph = tflite.classifier(tflite.SOFTMAX, "uint8", 1 / 16, 128)
    data = tflite.pack(graph, files={"labels.txt": b"red\ngreen\nblue\n"})
    twin, compiled_one = folder / "colours.tflite", folder / "colours_edgetpu.tflite"
    twin.write_bytes(data)
    compiled_one.write_bytes(compiled(data))
    return load_bundle(compiled_one), load_bundle(twin)


def pixel(red: int, green: int, blue: int) -> np.ndarray:
    return np.array([red, green, blue], np.uint8).reshape(1, 1, 1, 3)


class Machine:
    """A stand-in for `/` with Edge TPUs in its sysfs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {ROOT: str(root)}
        (root / "run/lock").mkdir(parents=True)
        self._numbers = iter(range(2, 1000))
        self.add("usb1", ("1d6b", "0002"))
        self.add("1-3", ("046d", "c52b"))
        self._write("sys/bus/usb/devices/1-3:1.0/bInterfaceNumber", "00")

    def add(self, port: str, ids: tuple[str, str] = LOADED) -> None:
        """Plug in a USB device, or have it enumerate anew."""
        number = next(self._numbers)
        folder = f"sys/bus/usb/devices/{port}"
        for name, value in (("idVendor", ids[0]), ("idProduct", ids[1]), ("busnum", 1), ("devnum", number)):
            self._write(f"{folder}/{name}", str(value))
        self._write(f"dev/bus/usb/001/{number:03d}", "")

    def remove(self, port: str) -> None:
        shutil.rmtree(self.root / "sys/bus/usb/devices" / port)

    def add_card(self, name: str = "apex_0", millidegrees: int = 45_000) -> None:
        self._write(f"sys/class/apex/{name}/temp", str(millidegrees))

    def listed_by_library(self, *paths: str) -> None:
        """What the stand-in's edgetpu_list_devices tells, in this order."""
        self._write("stand-in-devices", "".join(f"{path}\n" for path in paths))

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n" if text and not text.endswith("\n") else text)


def _archived(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile:
        return {}
