"""Logarithm, exponential, gamma function and sine from + - * / alone.

The C libraries differ in the last bit of these functions, and one bit is another log. IEEE 754 fixes the four operations (and
``frexp`` and ``ldexp``, which only move the binary point), so these give the same bits everywhere. Relative errors stay below
1e-14 where nothing else is said.
"""

from math import frexp, ldexp

LN_2 = 0.6931471805599453
PI = 3.141592653589793
_LN_2_HIGH = 0.6931471803691238
_LN_2_LOW = 1.9082149292705877e-10
_SQRT_HALF = 0.7071067811865476
_LN_SQRT_2_PI = 0.9189385332046727
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
_STIRLING_FROM = 12.0
_EXP_TERMS = 15
_LN_TERMS = 12
_SINE_TERMS = 9


def ln(value: float) -> float:
    """The natural logarithm of a finite number above 0.

    Raises:
        ValueError: ``value`` is not above 0.
    """
    if not value > 0:
        raise ValueError(f"there is no logarithm of {value}")
    mantissa, exponent = frexp(value)
    if mantissa < _SQRT_HALF:
        mantissa, exponent = mantissa * 2, exponent - 1
    ratio = (mantissa - 1) / (mantissa + 1)
    square = ratio * ratio
    total = 0.0
    for term in range(_LN_TERMS, -1, -1):
        total = total * square + 1.0 / (2 * term + 1)
    return exponent * _LN_2_HIGH + (2 * ratio * total + exponent * _LN_2_LOW)


def exp(value: float) -> float:
    """The power of e to this exponent; 0.0 far below, and ``OverflowError`` from ``ldexp`` above 709."""
    if value < -745:
        return 0.0
    halves = value / LN_2
    exponent = int(halves + 0.5) if halves >= 0 else -int(0.5 - halves)
    rest = (value - exponent * _LN_2_HIGH) - exponent * _LN_2_LOW
    total = 1.0
    for term in range(_EXP_TERMS, 0, -1):
        total = 1.0 + total * rest / term
    return ldexp(total, exponent)


def ln_gamma(shape: float) -> float:
    """The logarithm of the gamma function above 0, by Stirling's series after shifting upwards; absolute error below 1e-12."""
    product, shifted = 1.0, shape
    while shifted < _STIRLING_FROM:
        product, shifted = product * shifted, shifted + 1
    inverse = 1 / shifted
    series = 0.0
    for factor in reversed(_STIRLING):
        series = series * inverse * inverse + factor
    return (shifted - 0.5) * ln(shifted) - shifted + _LN_SQRT_2_PI + series * inverse - ln(product)


def sine(turns: float) -> float:
    """The sine of an angle in whole turns: ``sine(0.25)`` is 1."""
    turns -= int(turns)
    if turns < 0:
        turns += 1.0
    sign = 1.0
    if turns >= 0.5:
        turns, sign = turns - 0.5, -1.0
    angle = 2 * PI * min(turns, 0.5 - turns)
    square = angle * angle
    total = 1.0
    for term in range(_SINE_TERMS, 0, -1):
        total = 1.0 - total * square / ((2 * term) * (2 * term + 1))
    return sign * angle * total
