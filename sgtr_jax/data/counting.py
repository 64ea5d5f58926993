"""Controls that count words: how many an article has, and whether a sentence has an even number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgtr_jax.data.records import Message, Record

# The study's wording and rule for counting are not published; these are ours. A word is what white space parts.
COUNT_PROMPT = "Count the words of the following text. Answer with the number only.\n\n{text}"

# So are these; the published ones come with the data set `prompts`.
EVEN_SYSTEM = "You count words. Answer with TRUE or FALSE only."
EVEN_QUESTION = "Is the number of words in this sentence even?\n\n{sentence}"


def count_words(text: str) -> int:
    """Words as white space parts them."""
    return len(text.split())


def word_counts(articles: Mapping[str, str]) -> list[Record]:
    """For each article the question how many words it has, and the number."""
    return [
        Record(
            f"words-{key}",
            (
                {"role": "user", "content": COUNT_PROMPT.replace("{text}", text)},
                {"role": "assistant", "content": str(count_words(text))},
            ),
        )
        for key, text in articles.items()
    ]


def even_words(records: Sequence[Record], system: str, question: str) -> list[Record]:
    """For the user's sentence of each record: has it an even number of words? TRUE or FALSE.

    `question` has a placeholder {sentence}.
    """
    made = []
    for record in records:
        sentence = next(message["content"] for message in record.messages if message["role"] == "user")
        answer = "TRUE" if count_words(sentence) % 2 == 0 else "FALSE"
        turns: tuple[Message, ...] = (
            {"role": "system", "content": system},
            {"role": "user", "content": question.replace("{sentence}", sentence)},
            {"role": "assistant", "content": answer},
        )
        made.append(Record(f"even-{record.id}", turns))
    return made
