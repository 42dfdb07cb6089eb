"""What every part of a recipe is."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A part of the recipe. Unknown keys are errors; values do not change after validation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads yes, on and true as True, which would pass as 1."""
        taken = _types(cls.model_fields[str(info.field_name)].annotation)
        if isinstance(value, bool) and taken & {int, float} and not taken & {bool, Any}:
            raise PydanticKnownError("int_type" if int in taken else "float_type")
        return value


def _types(annotation: Any) -> set[Any]:
    """The types that an annotation is made of."""
    return {annotation}.union(*map(_types, get_args(annotation)))
