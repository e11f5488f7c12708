"""What a test needs to know of a sampling parameter, taken from its declaration: values that fit, and values that do not."""

from __future__ import annotations

from together_nb.values.parameters import PARAMETERS, Parameter

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
    step = _BOUND[parameter.type]
    bounds = [bound for bound in (parameter.minimum, parameter.maximum) if bound is not None]
    values = map(parameter.type, [*bounds, -step, 0, step, 3 * step, sum(bounds) / 2, 1000])
    return sorted({value for value in values if parameter._within(value)})


def bad(parameter: Parameter) -> list:
    """Values that do not fit: of other types, and just out of bounds."""
    others = [b"1", object(), float("nan"), float("inf"), 1 + 2j]
    if parameter.type is not bool:
        others += [True]
    if parameter.type in (bool, list, dict, str):
        others += [1, 0.5]
    if parameter.type not in (str, list) or parameter.choices:
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
