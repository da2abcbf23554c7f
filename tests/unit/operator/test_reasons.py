"""The closed list of reasons: each is said somewhere, each is CamelCase, none means two things in one place."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest

import postfleet_operator
from postfleet_operator.reasons import ConditionType, DecisionReason, EventReason, EventType, Reason

SOURCE = "\n".join(path.read_text() for path in Path(postfleet_operator.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("reasons", [ConditionType, DecisionReason, EventReason, EventType, Reason])
def test_every_word_is_used_and_spelled_as_kubernetes_does(reasons: type[StrEnum]) -> None:
    for word in reasons:
        assert re.fullmatch(r"([A-Z][a-zA-Z]+)+", word), word
        assert re.search(rf"\b{reasons.__name__}\.{word.name}\b", SOURCE), (
            f"{reasons.__name__}.{word.name} is never said"
        )
