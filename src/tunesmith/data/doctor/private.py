"""What must not be learnt by heart: keys and passwords, and what belongs to a person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from tunesmith.data.doctor.checks import Check, Context, Row
from tunesmith.data.doctor.findings import Finding

if TYPE_CHECKING:
    from detect_secrets.plugins.base import RegexBasedDetector

_FIX = "Replace it, or leave the row out"
# A key is a long word with digits and letters, a block in PEM, or a password in an address; nothing else is handed to the detectors.
_MAY_BE_SECRET = re.compile(r"-----BEGIN|://[^\s/@]*:[^\s/@]+@|(?=[A-Za-z0-9_\-./+=:]{16})(?=\S*\d)(?=\S*[A-Za-z])")
#: What examples write where a password would stand.
_NO_SECRETS = frozenset({"password", "passwd", "pass", "pwd", "secret", "token"})
_EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w-])")
#: Domains that belong to nobody (RFC 2606 and 6761).
_NOBODY = re.compile(r"@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|[\w-]*\.?(?:example|test|invalid|localhost))$", re.IGNORECASE)
_CARD = re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d-])")
#: How the numbers of card companies begin (ISO/IEC 7812).
_CARD_BEGINS = re.compile(r"4|5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|3(?:0[0-5]|[68])|6(?:011|4[4-9]|5)|35")
FEWEST_PHONE_DIGITS = 7


class Secrets(Check):
    """Keys and tokens, by the detectors of detect-secrets that know a kind of key by its form (its guesses by entropy are left out)."""

    def see(self, row: Row) -> Iterable[Finding]:
        """Return the first secret in a row."""
        text = row.text
        if _MAY_BE_SECRET.search(text) is None:
            return
        for detector in detectors():
            if any(str(found).lower() not in _NO_SECRETS for found in detector.analyze_string(text)):
                yield row.finding("secret", "error", f"it contains a secret ({detector.secret_type})", f"{_FIX}, and withdraw the key")
                return


@lru_cache(maxsize=1)
def detectors() -> Sequence[RegexBasedDetector]:
    """Return detect-secrets' detectors by form."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector
    from detect_secrets.plugins.ip_public import IPPublicDetector

    known = get_mapping_from_secret_type_to_class().values()
    by_form = [plugin for plugin in known if issubclass(plugin, RegexBasedDetector) and plugin is not IPPublicDetector]
    return tuple(plugin() for plugin in sorted(by_form, key=lambda plugin: plugin.__name__))


class PersonalData(Check):
    """E-mail addresses, phone numbers and payment cards."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._digits = re.compile(rf"(?:\d\D{{0,3}}){{{FEWEST_PHONE_DIGITS},}}")

    def see(self, row: Row) -> Iterable[Finding]:
        """Return what a row tells of a person, one finding a kind."""
        text = row.text
        if "@" in text and any(_NOBODY.search(address) is None for address in _EMAIL.findall(text)):
            yield row.finding("email_address", "warning", "it contains an e-mail address", _FIX)
        if self._digits.search(text) is None:
            return
        if has_card(text):
            yield row.finding("card_number", "error", "it contains the number of a payment card", _FIX)
        elif has_phone(text, self.context.phone_region):
            yield row.finding("phone_number", "warning", "it contains a phone number", _FIX)


def has_card(text: str) -> bool:
    """Return whether a text contains a payment card's number: its length, its beginning, and its check digit (Luhn)."""
    from stdnum import luhn

    numbers = (re.sub(r"[ -]", "", match) for match in _CARD.findall(text))
    return any(_CARD_BEGINS.match(number) and len(set(number)) > 1 and luhn.is_valid(number) for number in numbers)


def has_phone(text: str, region: str | None) -> bool:
    """Return whether a text contains a phone number that is in use, written internationally or as in ``region``."""
    from phonenumbers import Leniency, PhoneNumberMatcher

    return any(
        True
        for match in PhoneNumberMatcher(text, region, leniency=Leniency.STRICT_GROUPING)
        if match.raw_string.startswith("+") or re.search(r"\d\D+\d", match.raw_string)
    )
