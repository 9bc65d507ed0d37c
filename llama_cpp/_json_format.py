"""The formats of JSON schema's strings, as regular expressions of whole texts."""

from __future__ import annotations

_HEX = "[0-9A-Fa-f]"
_YEAR_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = f"(?:[0-9]{{4}}-{_YEAR_DAY}|{_LEAP_YEAR}-02-29)"
# a leap second is at 23:59:60 of UTC, whatever the offset says: not one is generated
_TIME = (
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
    "(?:[Zz]|[-+](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = rf"{_LABEL}(?:\.{_LABEL})*"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"(?:{_BYTE}\.){{3}}{_BYTE}"
_GROUP = f"{_HEX}{{1,4}}"
_LAST32 = f"(?:{_GROUP}:{_GROUP}|{_IPV4})"
# RFC 3986, IPv6address
_IPV6 = "|".join(
    [
        f"(?:{_GROUP}:){{6}}{_LAST32}",
        f"::(?:{_GROUP}:){{5}}{_LAST32}",
        f"(?:{_GROUP})?::(?:{_GROUP}:){{4}}{_LAST32}",
        f"(?:(?:{_GROUP}:){{0,1}}{_GROUP})?::(?:{_GROUP}:){{3}}{_LAST32}",
        f"(?:(?:{_GROUP}:){{0,2}}{_GROUP})?::(?:{_GROUP}:){{2}}{_LAST32}",
        f"(?:(?:{_GROUP}:){{0,3}}{_GROUP})?::{_GROUP}:{_LAST32}",
        f"(?:(?:{_GROUP}:){{0,4}}{_GROUP})?::{_LAST32}",
        f"(?:(?:{_GROUP}:){{0,5}}{_GROUP})?::{_GROUP}",
        f"(?:(?:{_GROUP}:){{0,6}}{_GROUP})?::",
    ]
)
_ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_EMAIL = rf"{_ATOM}(?:\.{_ATOM})*@{_HOSTNAME}"
# RFC 3986
_ESCAPED = f"%{_HEX}{{2}}"
_UNRESERVED = r"A-Za-z0-9._~\-"
_SUB = "!$&'()*+,;="
_PCHAR = f"(?:[{_UNRESERVED}{_SUB}:@]|{_ESCAPED})"
_USER = f"(?:[{_UNRESERVED}{_SUB}:]|{_ESCAPED})*"
_REG_NAME = f"(?:[{_UNRESERVED}{_SUB}]|{_ESCAPED})*"
_FUTURE = rf"[vV]{_HEX}+\.[{_UNRESERVED}{_SUB}:]+"
_AUTHORITY = rf"(?:{_USER}@)?(?:\[(?:{_IPV6}|{_FUTURE})\]|{_REG_NAME})(?::[0-9]*)?"
_TAIL = rf"(?:\?(?:{_PCHAR}|[/?])*)?(?:#(?:{_PCHAR}|[/?])*)?"
_SEGMENTS = f"(?:/{_PCHAR}*)*"
_HIERARCHY = f"(?://{_AUTHORITY}{_SEGMENTS}|/(?:{_PCHAR}+{_SEGMENTS})?|{_PCHAR}+{_SEGMENTS}|)"
_URI = f"[A-Za-z][A-Za-z0-9+.-]*:{_HIERARCHY}{_TAIL}"
_NO_COLON = f"(?:[{_UNRESERVED}{_SUB}@]|{_ESCAPED})+{_SEGMENTS}"
_RELATIVE = f"(?://{_AUTHORITY}{_SEGMENTS}|/(?:{_PCHAR}+{_SEGMENTS})?|{_NO_COLON}|){_TAIL}"
_DURATION_TIME = "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_DURATION_DATE = "(?:[0-9]+D|[0-9]+M(?:[0-9]+D)?|[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?)"
_POINTER = "(?:/(?:[^/~]|~[01])*)*"

PATTERNS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}[Tt]{_TIME}",
    "duration": f"P(?:{_DURATION_DATE}(?:{_DURATION_TIME})?|{_DURATION_TIME}|[0-9]+W)",
    "email": _EMAIL,
    "hostname": _HOSTNAME,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "uri": _URI,
    "uri-reference": f"{_URI}|{_RELATIVE}",
    "uuid": f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}",
    "json-pointer": _POINTER,
    "relative-json-pointer": f"(?:0|[1-9][0-9]*)(?:#|{_POINTER})",
}
"""Name → what a whole text of the format looks like."""

INEXPRESSIBLE = frozenset(
    {"idn-email", "idn-hostname", "iri", "iri-reference", "regex", "uri-template"}
)
"""Formats of draft 2020-12 that are refused; unknown names are annotations, as the draft says."""
