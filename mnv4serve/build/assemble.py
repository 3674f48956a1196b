"""From catalogued weights to the files of one verified artifact."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from mnv4serve.arch.model import MobileNetV4, create_model, load_weights
from mnv4serve.artifacts import Target
from mnv4serve.build import verify
from mnv4serve.build.cuda import cuda_model
from mnv4serve.build.export import float_model, write_openvino
from mnv4serve.build.graph import Graph, capture
from mnv4serve.build.quantize import quantized_model
from mnv4serve.build.ranges import Ranges, parse_ranges
from mnv4serve.catalog import Catalog, File, Preprocessing, Variant, Zoo
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import CatalogError, WeightsMismatch


def reference_model(catalog: Catalog, zoo: Zoo, variant: Variant) -> MobileNetV4:
    """The reference network of a variant with its weights, ready to evaluate."""
    checkpoint = zoo.checkpoint(variant.checkpoint)
    try:
        model = create_model(checkpoint.architecture, num_classes=len(zoo.labels))
    except ValueError as error:
        raise CatalogError(f"checkpoint {checkpoint.name}: {error}") from error
    weights = _tensors(catalog, checkpoint.weights)
    try:
        load_weights(model, weights, _tensors(catalog, variant.statistics))
    except WeightsMismatch as error:
        message = f"{variant.name} is no {checkpoint.architecture}: {error}"
        raise WeightsMismatch(message) from error
    return model.eval()


def exported(catalog: Catalog, zoo: Zoo, target: Target) -> bytes:
    """The model from which a target's artifact is made: the one to load, or ONNX to convert."""
    variant = zoo.variant(target.variant)
    graph = capture(reference_model(catalog, zoo, variant), variant.resolution)
    preprocessing = zoo.preprocessing_of(variant.name)
    if target.backend is BackendName.CUDA:
        return cuda_model(graph, preprocessing, variant.resolution, target.precision)
    if target.precision is not Precision.INT8:
        return float_model(graph, preprocessing, variant.resolution)
    if variant.ranges is None:
        raise CatalogError(f"variant {variant.name} has no quantisation ranges, so no int8")
    ranges = parse_ranges(catalog.read(variant.ranges))
    if target.backend in {BackendName.LITERT, BackendName.EDGETPU}:
        return mappable_model(graph, preprocessing, variant.resolution, ranges)
    return quantized_model(graph, preprocessing, variant.resolution, ranges)


def mappable_model(
    graph: Graph, preprocessing: Preprocessing, resolution: int, ranges: Ranges
) -> bytes:
    """A .tflite file that has passed the static gates of the Edge TPU."""
    from mnv4serve.build.litert import litert_model  # noqa: PLC0415  # imports LiteRT
    from mnv4serve.build.litert_gates import require_mappable  # noqa: PLC0415

    model = litert_model(graph, preprocessing, resolution, ranges)
    require_mappable(model, "the written file")
    return model


def write(model: bytes, target: Target, folder: Path) -> tuple[Path, ...]:
    """An artifact's files; the first is the one to load."""
    match target.backend:
        case BackendName.CPU:
            path = folder / "model.xml"
            write_openvino(model, path)
            return path, path.with_suffix(".bin")
        case BackendName.ONNX:
            path = folder / "model.onnx"
            path.write_bytes(model)
            return (path,)
        case BackendName.LITERT:
            path = folder / "model.tflite"
            path.write_bytes(model)
            return (path,)
        case BackendName.EDGETPU:
            from mnv4serve.build.edgetpu_compile import compile_beside  # noqa: PLC0415

            path = folder / "model.tflite"
            path.write_bytes(model)
            return path, *compile_beside(path)
        case BackendName.CUDA:
            path = folder / "model.safetensors"
            path.write_bytes(model)
            return (path,)


def assemble(
    catalog: Catalog, zoo: Zoo, target: Target, folder: Path
) -> tuple[tuple[Path, ...], float]:
    """Write an artifact's files and measure their deviation by loading them as serving does.

    Raises ArtifactMismatch where they compute something else than the reference.
    """
    files = write(exported(catalog, zoo, target), target, folder)
    return files, verify.prove(catalog, zoo, target, files[0])


def _tensors(catalog: Catalog, file: File) -> dict[str, Tensor]:
    try:
        return load(catalog.read(file))
    except SafetensorError as error:
        raise WeightsMismatch(f"{file.path} is not a readable weights file: {error}") from error
