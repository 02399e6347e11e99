"""What every method needs to know of the run it is part of."""

from dataclasses import dataclass

import torch

from specialists.tokenizer import ChatTokenizer
from specialists.training.lora import TrainableModel
from specialists.training.recipe import Recipe
from specialists.training.run_folders import FindModel, Folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The recipe, its folders, and the student in memory. `find_model` turns a teacher's name into its folder."""

    recipe: Recipe
    folders: Folders
    tokenizer: ChatTokenizer
    model: TrainableModel
    dtype: torch.dtype
    find_model: FindModel
