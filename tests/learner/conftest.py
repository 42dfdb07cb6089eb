"""A tiny model, once as a folder and afresh as a module for each test."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tiny import tiny_model
from torch import nn

from groupwise.learner.policy import Policy, load_policy


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do not write into it."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def loaded(folder: Path) -> Policy:
    """Do not train it."""
    return load_policy(str(folder), torch.device("cpu"))


@pytest.fixture
def model(loaded: Policy) -> nn.Module:
    return copy.deepcopy(loaded.model)
