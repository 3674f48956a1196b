"""Behaviour of mnv4serve.serving.oneshot."""

from pathlib import Path

import pytest

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import Terms
from mnv4serve.errors import NoSuchArm
from mnv4serve.host import survey
from mnv4serve.serving.oneshot import answer_all


def test_an_unknown_variant_is_refused_before_anything_is_loaded(
    tiny_models: Path, tmp_path: Path
) -> None:
    """Where nothing is built yet, too: the sentence lists the zoo's own."""
    config = ServiceConfig(models=tiny_models, state_dir=tmp_path)

    with pytest.raises(NoSuchArm, match="no variant huge@512; there are conv_small_035@32"):
        answer_all(survey(config), config, [b""], terms=Terms(variant="huge@512"))
