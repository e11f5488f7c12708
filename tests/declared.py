"""What a test needs to know of a sampling parameter, taken from its declaration: values that fit, and values that do not."""

from __future__ import annotations

from together_nb.params import PARAMETERS, Parameter

_OF_TYPE = {bool: [True, False], list: [["END"], ["\n\n", " x"]], dict: [{"262": 5.0}, {"50256": -100.0, "1": 0.0}]}
_BOUND = {int: 1, float: 0.25}  # beside a bound


def good(parameter: Parameter) -> list:
    """Values that fit, in the parameter's own type: at least two, the bounds and 0 among them where they fit."""
    if parameter.choices:
        return list(parameter.choices)
    if parameter.type in _OF_TYPE:
        return _OF_TYPE[parameter.type]
    if parameter.type is str:
        return ["a text", "another"]
    step = parameter.type(_BOUND[parameter.type])
    low, high = parameter.minimum, parameter.maximum
    values = {parameter.type(0), step, 3 * step}
    values |= {low if not parameter.exclusive_minimum else low + step} if low is not None else {-step}
    values |= {high} if high is not None else {parameter.type(1000)}
    if low is not None and high is not None:
        values |= {low + (high - low) / 2, low + (high - low) / 4}
    return sorted({typed for typed in map(parameter.type, values) if parameter._within(typed)})


def bad(parameter: Parameter) -> list:
    """Values that do not fit: of other types, and just out of bounds."""
    others = ["hot", b"1", object(), float("nan"), float("inf"), 1 + 2j]
    if parameter.type is not bool:
        others += [True]
    if parameter.type in (bool, list, dict, str):
        others += [1, 0.5]
    if parameter.type in (str, list):
        others.remove("hot")
    if parameter.type is str and parameter.choices:
        others += ["hot"]
    if parameter.type in (int, float):
        step = _BOUND[parameter.type]
        others += [[1], {"a": 1}]
        others += [parameter.minimum - step] if parameter.minimum is not None else []
        others += [parameter.minimum] if parameter.exclusive_minimum else []
        others += [parameter.maximum + step] if parameter.maximum is not None else []
        others += [1.5] if parameter.type is int else []
    return others


EXAMPLES = [(parameter, good(parameter)[-1]) for parameter in PARAMETERS.values()]
"""Each parameter with one value that fits."""
