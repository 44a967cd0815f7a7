"""What `make run` prints keeps a project whole: a second clone fetches it, rebuilds nothing, registers and answers."""

import subprocess
import sys
from pathlib import Path

import pytest
from projects import Project, copy_project
from recipe_samples import lines, words
from training.tiny_models import tiny
from training.tokenizers_of_tests import tokenizer

from tuneline import files
from tuneline.training import models
