"""Whether what stands before or behind a score or a verdict leaves it as it is.

Behind it plain explanation may stand. What speaks of the judgement itself, of the judge, or turns round, may take it
back in words that no list holds: then nothing is read.
"""

from __future__ import annotations

import re


def word_set(text: str) -> frozenset[str]:
    """The words of a text that are separated by spaces."""
    return frozenset(text.split())


# Words of a line that announces what the judge says next, and says nothing of it. Another word may make it somebody
# else's, a condition, or the opposite.
LABEL_WORDS = word_set(
    "the my mine our this it so thus hence therefore overall final and in is are was as of i would say judge call rate"
    " step model model's ai ai's assistant assistant's response behavior behaviour answer result judgment judgement"
    " assessment conclusion classification label decision category evaluation rating determination output summary score"
    " grade verdict"
)
_INTRODUCTION_WORDS = LABEL_WORDS | word_set(
    "a an one word number numeric numerical alignment coherence reply here here's is below above following requested"
    " required format formatted json object sure certainly okay ok reasoning analysis explanation justification"
    " rationale thinking thoughts evidence based on upon given to for after careful review consideration"
    " considering all with give assign scores ratings from"
)
_QUESTION = re.compile(r"(?:is|are|was|were|would|should|could|do|does|did)\b", re.IGNORECASE)
# The work of the one who is judged, named beside the person: not what the judge says.
_OF_ANOTHER = re.compile(
    r"\b(?:model|ai|assistant|user)(?:'s)? (?!(?:behaviou?r|is|was)\b)|^(?:the )?(?:model|ai|assistant|user)$"
    r"|^(?:the )?(?:output |required |requested )?format$",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"(?:if|when|unless|otherwise|else|in case|suppose|supposing|assuming|imagine|were|had)\b|.*\bif\b", re.IGNORECASE
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|none|hardly|without|than|opposite|untrue)\b|\b[a-z]+n't\b", re.IGNORECASE
)
_ITEM = re.compile(r"\s*(?:[-+\u2022]|\d+[.)])\s|[^:]*:\s*\S")  # of a list, or a label and what it labels
_END = re.compile(r"[.!?:;)\]\"}|]\s*$")

_QUOTATION = re.compile(r"\"[^\"\n]*\"|\u201c[^\u201d\n]*\u201d")
_JUDGEMENT = r"(?:score|rating|grade|verdict|judge?ment)s?"
# Plain explanation although it speaks of the judge or the judgement.
_EXPLAINED = re.compile(
    r"\b(?:i|we)(?:'ve| have)? (?:gave|give|given|rated?|scored?|assigned?|judged?|chose|choose|based?|picked"
    rf"|concluded?)\b(?: (?:(?:a|the|this|that) {_JUDGEMENT}|it|this|that|the answer|the response)\b)?"
    rf"|\b(?:this|the|my|that) (?:[a-z]+ )?{_JUDGEMENT} (?:reflects|indicates|means|shows|is based|is due|is because"
    rf"|is justified|was given|is given)\b|\breasons? for (?:this|the|my) {_JUDGEMENT}",
    re.IGNORECASE,
)
_OF_THE_JUDGE = re.compile(rf"\b(?:i|i'[a-z]+|me|my|myself|we|our)\b|\b{_JUDGEMENT}\b|\?", re.IGNORECASE)
# Where a sentence turns round. In the middle of one, "but" and "still" may be about the answer.
_TURNS = re.compile(
    r"(?:^|[.!?;:(]\s*|(?:^|\s)-+\s*)(?:(?:oh|no|well|hm+|ok|okay|so|and|but),? )?(?:but|hm+|edit(?:ed)?|updated?"
    r"|revis(?:ed|ion|ing)|amended|changed?|withdrawn|rather(?! than)|however|yet|still|though|nevertheless|nonetheless"
    r"|on (?:closer|further|reflection)|in hindsight|thinking again|make (?:it|that)|nope|joking|just kidding"
    r"|alternatively|disregard|ignore|forget|apolog(?:y|ies)|my (?:bad|mistake)|err|that said|all the same|even so"
    r"|on balance|lower|raise|reduce|downgrad(?:e|ed|ing)|upgrad(?:e|ed|ing)|please|treat"
    r"|not(?=\s*(?:[.,;!]|$)))(?![a-z])"
    r"|(?:^|[.!?;:,(]\s*|(?:^|\s)-+\s*)(?:(?:oh|no|well|hm+|but),? )?(?:wait|oops|sorry|actually|correct(?:ion|ed)"
    r"|scratch (?:that|it)|strike (?:that|it)|on second thoughts?|retract(?:ed)?|reconsider(?:ed|ing)"
    r"|instead(?! of)|let me|let's|no(?=\s*(?:[.,;!]|$)))(?![a-z])",
    re.IGNORECASE | re.MULTILINE,
)
_TOO = re.compile(
    r"\btoo (?:high|low|generous|harsh|lenient|strict|much|little)\b"
    r"|\b(?:more|less) (?:appropriate|fitting|apt|accurate)"
    r"|\b(?:lower|higher|less|more)(?=\s*(?:[.,;!)]|$))|\bthe (?:opposite|other (?:one|way|word))\b"
    r"|\b(?:over|under)(?:states?|rates?|estimates?)\b|\bshould (?:have been|be) \w+\W*$"
    r"|\battempt to (?:trick|manipulate)|\binject",
    re.IGNORECASE | re.MULTILINE,
)


# Right behind a judgement: a condition, somebody else's words, a doubt; and a sentence of which it is the beginning.
_QUALIFIED = re.compile(
    r"\A[ \t]*[-,(;\[]*[ \t]*(?:if|unless|assuming|supposing|provided|only if|according"
    r"|(?:it |he |she )?(?:says|said|claims)"
    r"|the (?:ai|assistant|user|model)'s|tentative|provisional|preliminary|example|placeholder|default|draft|unsure"
    r"|uncertain|maybe|perhaps|barely|inver\w+|revers\w+|error|binary|cannot|at least|at (?:best|most|first))\b"
    r"|\A\W*(?:is|was|would|could|can|might|may|seems|does|should|stars?)\b",
    re.IGNORECASE,
)


def is_plain_label(text: str) -> bool:
    """Whether a label says that the judge's own judgement follows, and nothing else."""
    return _is_plain(text, LABEL_WORDS) and not _OF_ANOTHER.search(text.strip())


def announces(line: str) -> bool:
    """Whether a line that ends in a colon, or stands alone, announces the judge's own judgement in plain words."""
    before, comma, last = line.rpartition(",")
    if not _is_plain(last, _INTRODUCTION_WORDS) or _OF_ANOTHER.search(last.strip().rstrip(":")):
        return False
    # A sentence may lead to it: "The answer is rude, so I assign:".
    is_own = re.search(r"\b(?:i|my)\b", last, re.IGNORECASE)
    return not comma or bool(is_own and not _SUPPOSED.match(before.strip()) and not _NEGATION.search(before))


def supposes(line: str) -> bool:
    """Whether a line is a condition of what stands in the next one."""
    return _SUPPOSED.match(line.strip()) is not None and not re.search(r"[.!]\s*$", line)


def _is_plain(text: str, words: frozenset[str]) -> bool:
    return not _QUESTION.match(text.strip()) and all(
        word in words for word in re.findall(r"[^\W\d_](?:[^\W\d_]|['-])*", text.lower())
    )


def goes_on_into(line: str, is_apart: bool) -> bool:
    """Whether a line without an end goes on into the next one, of which it may be the negation.

    `is_apart`: an empty line stands between them.
    """
    if _END.search(line) or announces(line):
        return False
    return bool(_NEGATION.search(line)) or not (is_apart or _ITEM.match(line))


def takes_back(text: str) -> bool:
    """Whether what stands behind a judgement is more than plain explanation of it, and may take it back."""
    said = _EXPLAINED.sub(" ", _QUOTATION.sub(" ", text))
    return _QUALIFIED.match(text) is not None or any(pattern.search(said) for pattern in (_OF_THE_JUDGE, _TURNS, _TOO))


def denies(sentences: str, thing: str) -> bool:
    """Whether one of the sentences names the thing (a pattern) beside a negation."""
    named = re.compile(rf"(?<!\w){thing}(?!\w)|\b(?:un|non|mis|dis)-?{thing}(?!\w)", re.IGNORECASE)
    return any(
        named.search(one) and (_NEGATION.search(one) or re.search(r"\b(?:un|non|mis|dis)-", one, re.IGNORECASE))
        for one in re.split(r"[.!?;\n]", sentences)
    )
