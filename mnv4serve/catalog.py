"""models/ on disk: zoos, variants, weights and what is certified about them; read-only."""

import hashlib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import CatalogError

CATALOG_FILE = "catalog.toml"
STEP = 32
"""Our own networks halve a picture's side five times."""
LARGEST = 1024
Share = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Triple = tuple[float, float, float]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Label(_Frozen):
    """One class: its id in the data set and the name that people read."""

    id: str
    name: str


class Preprocessing(_Frozen):
    """From a decoded picture to the network's input; said once for a whole zoo where it can be."""

    resize: Literal["squash", "shortest"]
    """`squash` maps the whole picture to the square, `shortest` keeps the aspect and crops."""
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """With `shortest`: the centre share of the resized side that is kept."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: Triple
    std: Triple
    """Of pixels scaled to [0, 1], as mean is."""


class File(_Frozen):
    """A file below models/ and the hash of its bytes."""

    path: str
    sha256: Sha256


class Checkpoint(_Frozen):
    """Trained weights that several resolutions share."""

    name: str
    architecture: str
    weights: File
    data: str
    """Name of the data set it was trained on."""
    command: str
    seed: int | None = None
    """None where it was not published."""
    date: str
    card: str
    """Model card: a path below models/ or an address."""
    revision: str | None = None
    """Commit of the hub's repository that published weights came from."""


class Certified(_Frozen):
    """What was measured once on a released artifact, on the serving path."""

    backend: BackendName
    precision: Precision
    accuracy: Share
    n: Annotated[int, Field(gt=0)]
    split: str
    dev: Share | None = None
    """Accuracy on the split that choices are made on."""
    reading: Sha256 | None = None
    """The artifact as its line in the log of readings names it."""
    deviation: Annotated[float, Field(ge=0)]
    """Average difference of the logits from the reference's on the verification pictures, relative
    to how much the reference varies from picture to picture; a build may show at most twice as
    much."""


class Published(_Frozen):
    """What whoever trained the weights says of them; nobody measured it on the serving path."""

    accuracy: Share
    data: str
    """Data set and split that the figure is for."""
    source: str


class Network(_Frozen):
    """Somebody else's network, served as it is: what it takes and what it gives.

    Its file stands where a checkpoint has its weights.
    """

    input: str
    layout: Literal["NCHW", "NHWC"]
    colours: Literal["RGB", "BGR", "grey"] = "RGB"
    number: Literal["float32", "float16", "uint8", "int8"]
    """Format of the input."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    zero_point: int = 0
    """A whole number of the input stands for `(number - zero_point) * scale`."""
    output: str
    gives: Literal["logits", "probabilities"]
    label_offset: Annotated[int, Field(ge=0)] = 0
    """Outputs before that of the first label, for example a background class."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """The only batch size it takes; None where it takes any."""
    precision: Precision


class Variant(_Frozen):
    """An architecture at an input resolution with trained weights."""

    name: str
    checkpoint: str
    resolution: Annotated[int, Field(ge=8, le=2048)]
    preprocessing: Preprocessing | None = None
    """Where it differs from its zoo's."""
    batch_norm: File | None = None
    """Batch-norm statistics re-estimated at this resolution, or published ones for them all."""
    network: Network | None = None
    """In the place of an architecture of ours with its statistics."""
    ranges: File | None = None
    """Quantisation ranges for int8, computed on real pictures; None where int8 is not offered."""
    ready: File | None = None
    """Ready-made int8 .tflite file, for machines that cannot build."""
    reference: File
    """The reference's logits on the verification pictures."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """What logits are divided by so that probabilities are as often right as they say."""
    certified: tuple[Certified, ...] = ()
    published: Published | None = None

    @model_validator(mode="after")
    def _ours_or_not(self) -> Self:
        if (self.network is None) == (self.batch_norm is None):
            raise ValueError(f"variant {self.name} needs one of batch_norm and network")
        if self.network is None and (
            self.resolution % STEP or not STEP <= self.resolution <= LARGEST
        ):
            raise ValueError(f"variant {self.name} needs a resolution that is a multiple of {STEP}")
        return self

    @property
    def statistics(self) -> File:
        """Batch-norm statistics; raises CatalogError where the network is somebody else's."""
        if self.batch_norm is None:
            raise CatalogError(f"{self.name} is a ready-made network: it is served, not trained")
        return self.batch_norm

    def accuracy(self, backend: BackendName, precision: Precision) -> float | None:
        """Certified accuracy of one of its artifacts, else what may be taken over for it, or None.

        Floating-point artifacts are verified where they are built, so one that nobody certified
        takes over the lowest accuracy of the others, or else the published one. int8 takes none.
        """
        if entry := self.certificate(backend, precision):
            return entry.accuracy
        if precision is Precision.INT8:
            return None
        floating = [c.accuracy for c in self.certified if c.precision is not Precision.INT8]
        return min(floating, default=self.published.accuracy if self.published else None)

    def is_taken_over(self, backend: BackendName, precision: Precision) -> bool:
        """Whether an artifact has an accuracy that nobody measured on it."""
        certified = self.certificate(backend, precision)
        return certified is None and self.accuracy(backend, precision) is not None

    def certificate(self, backend: BackendName, precision: Precision) -> Certified | None:
        found = (c for c in self.certified if (c.backend, c.precision) == (backend, precision))
        return next(found, None)


class Zoo(_Frozen):
    """Variants that answer the same question with the same labels."""

    title: str
    labels: tuple[Label, ...]
    preprocessing: Preprocessing
    pictures: File
    """The verification pictures, uint8 [N, side, side, 3] in an .npz."""
    checkpoints: tuple[Checkpoint, ...]
    variants: tuple[Variant, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = {checkpoint.name for checkpoint in self.checkpoints}
        for variant in self.variants:
            if variant.checkpoint not in names:
                raise ValueError(f"variant {variant.name} names no checkpoint of its zoo")
        if len({variant.name for variant in self.variants}) < len(self.variants):
            raise ValueError("two variants have the same name")
        return self

    def variant(self, name: str) -> Variant:
        """Raises CatalogError naming the variants there are."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(variant.name for variant in self.variants)
        raise CatalogError(f"unknown variant {name!r}; this zoo has {known}")

    def checkpoint(self, name: str) -> Checkpoint:
        return next(c for c in self.checkpoints if c.name == name)

    def preprocessing_of(self, variant: str) -> Preprocessing:
        """A variant's own preprocessing, else its zoo's."""
        return self.variant(variant).preprocessing or self.preprocessing


class Catalog(_Frozen):
    """All zoos of one models/ folder."""

    root: Path
    default_zoo: str
    zoos: dict[str, Zoo]

    def zoo(self, name: str | None = None) -> tuple[str, Zoo]:
        """A zoo by name, the default one where None; raises CatalogError naming those there are."""
        chosen = self.default_zoo if name is None else name
        if chosen not in self.zoos:
            raise CatalogError(f"unknown zoo {chosen!r}; there are {', '.join(self.zoos)}")
        return chosen, self.zoos[chosen]

    def read(self, file: File) -> bytes:
        """The bytes of a catalogued file; raises CatalogError where missing or altered."""
        path = self.root / file.path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CatalogError(f"{path} is missing: restore it from the release") from error
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise CatalogError(f"{path} differs from its catalog entry: restore it")
        return content


def find_models(flag: Path | None) -> Path:
    """The folder with the catalog: flag, `MNV4SERVE_MODELS`, `./models`, the installed package."""
    named = flag or os.environ.get("MNV4SERVE_MODELS")
    if named:
        folder = Path(named)
        if not (folder / CATALOG_FILE).is_file():
            raise CatalogError(f"{folder} holds no {CATALOG_FILE}")
        return folder
    for folder in (Path("models"), Path(__file__).parent / "models"):
        if (folder / CATALOG_FILE).is_file():
            return folder
    raise CatalogError(f"no models/{CATALOG_FILE} here or in the package: name one with --models")


def load_catalog(models: Path | None = None) -> Catalog:
    """Read and check catalog.toml; the files it names are checked when they are read."""
    path = find_models(models) / CATALOG_FILE
    try:
        return Catalog(root=path.parent, **tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogError(f"{path} cannot be read: {error}") from error
    except (ValidationError, TypeError) as error:
        raise CatalogError(f"{path}: {_sentence(error)}") from error


def own_zoo(zoos: Path, name: str) -> Path:
    """The folder of a zoo that was pulled or trained here."""
    return zoos / name


def open_catalog(models: Path | None, zoos: Path, zoo: str | None) -> Catalog:
    """The catalog that holds a zoo: that of models/, else the one of a zoo of the user's own.

    Raises CatalogError naming all zoos where none has that name.
    """
    shipped = load_catalog(models)
    if zoo is None or zoo in shipped.zoos:
        return shipped
    own = sorted(path.parent.name for path in zoos.glob(f"*/{CATALOG_FILE}"))
    if zoo in own:
        return load_catalog(own_zoo(zoos, zoo))
    known = ", ".join([*shipped.zoos, *own])
    raise CatalogError(
        f"unknown zoo {zoo!r}; there are {known}; `mnv4serve pull imagenet1k` and "
        "`mnv4serve train --data FOLDER --zoo NAME` add more"
    )


def _sentence(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
