"""Stages that fail when they are told to, by their input or by a file beside this one."""

from pathlib import Path

from grainwise import App, Batch, Failed, Slo

app = App("moody", slo=Slo(latency_ms=20_000))
HERE = Path(__file__).parent


def refuse(name: str) -> None:
    if (HERE / f"{name}.broken").exists():
        raise OSError(f"no model for {name}")


class First:
    def __init__(self) -> None:
        refuse("First")

    def __call__(self, words: Batch[str]) -> Batch[str]:
        if len(words) > 1 and "together" in words:
            raise RuntimeError("only alone")
        if "raise" in words:
            raise ValueError("no such word")
        return [Failed("unwanted") if word == "fail" else word.upper() for word in words]


class Second:
    def __init__(self) -> None:
        refuse("Second")

    def __call__(self, words: Batch[str]) -> Batch[str]:
        answers: dict[str, object] = {"NUMBER": 3, "SHORT": None}
        return [answers.get(word, f"<{word}>") for word in words]  # type: ignore[misc]


class Third:
    def __init__(self) -> None:
        refuse("Third")

    def __call__(self, words: Batch[str]) -> Batch[str]:
        return [word + "!" for word in words]


first = app.stage(First, max_batch=8)
second = app.stage(Second, max_batch=8)
third = app.stage(Third, max_batch=8)


@app.flow
def shout(word: str) -> str:
    return third(second(first(word)))
