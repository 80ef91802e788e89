"""Whose face a clip shows, where the clip's name tells."""

from __future__ import annotations

import re

_PATTERNS = (
    # subject12, Actor_07, person-3, id00012, with or without more behind: subject12_smile
    re.compile(r"(?:^|[/_\-. ])((?:subject|subj|sub|person|actor|speaker|id)[-_ ]?\d+)(?=$|[/_\-. ])", re.IGNORECASE),
    # CK+ S005, MMI S001-100, Oulu-CASIA P001. A lone s1 or p2 may as well be a scene or a part.
    re.compile(r"(?:^|[/_\-. ])([SP]\d{3,4})(?=$|[/_\-. ])"),
    # CREMA-D 1001_DFA_ANG_XX
    re.compile(r"(?:^|/)(\d{4})_[A-Z]{3}_[A-Z]{3}_[A-Z]{2}(?=$|[/.])"),
    # RAVDESS 02-01-06-01-02-01-12: the last number is the actor
    re.compile(r"(?:^|/)\d\d(?:-\d\d){5}-(\d\d)(?=$|[/.])"),
)


def person_in(name: str) -> str | None:
    """The person that a clip's name mentions, as `S005` or `subject12`; None where it does not tell.

    Only what is unmistakable counts: words for a person with a number, and the names that the clips of CK+,
    MMI, Oulu-CASIA, CREMA-D and RAVDESS have.
    """
    for pattern in _PATTERNS:
        if match := pattern.search(name):
            return match[1].casefold()
    return None
