"""Metrics of what this machine has not: a text that never changes, served as an exporter would."""

from played_http import Answer, Call, PlayedHttp


class Exposition(PlayedHttp):
    """Answers every GET with ``text``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._answer = Answer(text.encode(), headers={"Content-Type": "text/plain; version=0.0.4"})

    def answer(self, call: Call) -> Answer:
        return self._answer
