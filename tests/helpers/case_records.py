"""Cases for the tests of stores, exports and pages, one field changed at a time."""

from p2r.records import Case, Question, Trace, Verdict


def make_case(n: int, **changes) -> Case:
    """Return case n of a run. `changes` set its fields, or fields of its question and trace."""
    question = {
        "id": f"q{n}",
        "problem": f"What moves in clip {n}?",
        "options": ["A. a cube", "B. a ball"],
        "problem_type": "multiple choice",
        "path": f"clips/{n}.mp4",
        "answer": "A",
        "source": "world",
        "meta": {"scene": n},
    }
    trace = {
        "question_id": f"q{n}",
        "text": "<observation>A cube.</observation>",
        "observation": "A cube.",
        "run": "demo",
        "stage": "sft",
        "sampling": {"temperature": 1.0},
    }
    case = {"accuracy": 1.0, "verdict": Verdict(sufficient=True, rationale="It is said.")}
    for name, value in changes.items():
        part, _, field = name.partition("_")
        if part in ("question", "trace"):
            {"question": question, "trace": trace}[part][field] = value
        else:
            case[name] = value
    trace["question_id"] = question["id"]
    return Case(question=Question(**question), trace=Trace(**trace), **case)


def ids(rows) -> list[str]:
    return [row["question.id"] for row in rows]
