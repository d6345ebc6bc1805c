"""Cases of the playground with a known scene: a group of rollouts whose truth can be checked."""

from pathlib import Path

from browser_cases import make_case, write_clip

from p2r.cases.store import write_cases
from p2r.playground.world import Scene, SceneObject
from p2r.records import Case, ProcessReward, Verdict

TRUE = "A big red square moves right and stops at 1 s."
INVENTED = "A small red square moves left and stops at 1 s."
SCENE = Scene([SceneObject("red", "square", "big", 12, 20, "right", "stops", 1)])
PROBLEM = "After how many seconds does the red square stop?"
# (observation, sufficient, right): the four cells, and a sufficient observation that is untrue.
ROLLOUTS = (
    (TRUE, True, True),
    (TRUE, True, False),
    ("A big red square moves right.", False, True),
    ("A small blue circle stays still.", False, False),
    (INVENTED, True, True),
)


def scenic_case(rollout: int, stage: str = "rl-grpo", run: str = "scenic", **fields) -> Case:
    """Return a rollout of `ROLLOUTS`. Its advantages are those of GRPO."""
    seen, sufficient, right = ROLLOUTS[rollout]
    observation = f"Based on the question, I need to notice the red square. {seen}"
    think = "Based on the observations, the red square stops at 1 s."
    answer = "1" if right else "3"
    case = make_case(
        1,
        run=run,
        stage=stage,
        step=51,
        rollout=rollout,
        observation=observation,
        think=think,
        answer=answer,
        text=f"<observation>{observation}</observation><think>{think}</think>"
        f"<answer>{answer}</answer>",
        media={"duration": 2.0, "fps": 8.0},
        **fields,
    )
    case.question.problem, case.question.problem_type = PROBLEM, "regression"
    case.question.options, case.question.answer = [], "1"
    case.question.meta = {"scene": SCENE.to_dict()}
    rationale = (
        "The observation leads to '1'." if sufficient else "Not deducible: no event is told."
    )
    given = 0.73 if right else -1.10
    return case.model_copy(
        update={
            "accuracy": float(right),
            "verdict": Verdict(sufficient=sufficient, rationale=rationale, judge="oracle"),
            "perception": ProcessReward(accuracy=float(sufficient), format=1.0, length=0.0),
            "reasoning": ProcessReward(accuracy=float(right), format=1.0, length=0.0),
            "perception_advantage": given,
            "reasoning_advantage": given,
        }
    )


def scenic_id(rollout: int, stage: str = "rl-grpo") -> str:
    return f"scenic/{stage}/51/q001/{rollout}"


def write_scenic_run(run: Path) -> Path:
    """Write a run with a group of GRPO rollouts, and one evaluated response per model."""
    write_clip(run / "media" / "clips" / "a.mp4")
    cases = [scenic_case(k, run=run.name) for k in range(len(ROLLOUTS))]
    cases += [
        scenic_case(k, stage, run.name)
        for stage, k in (("eval-base", 3), ("eval-sft", 2), ("eval-pa_grpo", 0))
    ]
    write_cases(run, cases)
    return run
