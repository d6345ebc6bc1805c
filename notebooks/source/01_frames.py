# %% [markdown]
# # 01 · Videos to frames: what sampling loses
#
# A model sees only a few frames of a clip, at a reduced size. It does not see what happens between them. To measure what it misses, you must know what there is to see: the playground draws videos of scenes whose content is known exactly.
#
# **After this notebook you can**
# - read a scene of the playground and say what its video shows at any time
# - say which frames of a clip are sampled, and what they can tell about an event
# - compute how many tokens a clip costs
#
# **Needs** {measured}. Reads nothing. Writes the training and test questions with their videos into the run (`data/`, about 7 MB). You know: Python. New words are in the [glossary](../docs/teaching/glossary.md).
# %% [parameters]
import os

SCALE = "tiny"  # "quick": a few steps; for GPUs: "3b-1x24gb", "7b-1x80gb", "7b-8x80gb"
SEED = 0
RUN = "../runs/workshop"
CLIPS = os.environ.get("P2R_CLIPS")  # a folder with clips of your own; None: you have none yet
# %%
from p2r import plots, workshop
from p2r.workshop import checks, widgets

run = workshop.begin(RUN, SCALE, SEED)
folder = workshop.need(run, "playground").parent
# %% [markdown]
# ## Toy numbers: one circle
#
# A scene is a list of objects on a stage of 56 × 56 units, and perhaps a sign with a word. x grows to the right and y grows downwards. Moving objects move 5 units per second. Each object has at most one event, at 1, 2 or 3 s: it appears, vanishes, stops, turns another colour, or hits another object.
#
# The scenes of the course have four or five objects. In one scene, every colour and every shape occurs once, so a name like "red circle" means one object only. The scene below has two objects.
#
# **Predict:** a circle starts at x = 12, moves right, and stops at 2 s. Where is it at 1 s, and where at 3 s?
# %%
from p2r.playground.second.world import Scene, SceneObject

circle = SceneObject("red", "circle", "big", motion="right", event="stops", time=2, x=12, y=28)
square = SceneObject("blue", "square", "small", event="vanishes", time=3, x=42, y=28)
scene = Scene((circle, square), sign="STOP", sign_x=16)
for second in (0, 1, 2, 3):
    seen = "there" if square.visible(second) else "gone"
    print(f"{second} s: circle at {circle.position(second)}, square {seen}")
# %%
from p2r.playground.drawing import draw

plots.contact_sheet(draw(scene))
# %% [markdown]
# **What this shows.** The circle moves 5 units per second until 2 s, then it stays. A frame shows the scene at one time. *Several* frames together show where an object starts, how it moves and where it stops. A single frame cannot show that.
#
# ### Exercise 1: where is the triangle?
#
# Difficulty ●○○○○ · importance ●●○○○ · 3 minutes
#
# A triangle starts at (28, 40), moves up, and stops at 1 s. Where is it at 3 s? Remember that y grows downwards.
# %% [exercise]
position = None  # (x, y)
# %% [solution]
position = (28, 35)
# %%
look = ("green", "triangle", "small")
triangle = SceneObject(*look, motion="up", event="stops", time=1, x=28, y=40)
checks.test_position(position, triangle.position(3))
# %% [markdown]
# ## Which frames?
#
# Frames are sampled evenly from the first to the last. The indices lie on a straight line and are rounded.
#
# **Predict** the indices of 4 out of 10 frames, and of 8 out of 5.
# %%
from p2r.video import uniform_indices

for total, count in ((10, 4), (5, 8), (128, 8)):
    print(f"{count} of {total}: {uniform_indices(total, count)}")


# %% [markdown]
# **What this shows.** The first and the last frame are always included. A clip with too few frames gives all its frames, each once.
#
# ### Exercise 2: sample evenly
#
# Difficulty ●●○○○ · importance ●●●○○ · 8 minutes
#
# Write `indices(total, count)`: a list of `count` frame indices of a clip with `total` frames, as `uniform_indices` gives them. If the clip has no more than `count` frames, return all its indices. Round with `round`. You may assume that `count` is at least 2.
# %% [exercise]
def indices(total: int, count: int) -> list[int]:
    """Return at most `count` frame indices, evenly from 0 to total - 1."""
    raise NotImplementedError


# %% [solution]
def indices(total: int, count: int) -> list[int]:
    """Return at most `count` frame indices, evenly from 0 to total - 1."""
    if total <= count:
        return list(range(total))
    return [round(place * (total - 1) / (count - 1)) for place in range(count)]


# %%
indices = checks.test_indices(indices)
# %% [hint]
# The step between two samples is `(total - 1) / (count - 1)`, not rounded. Round only the places.
# %% [markdown]
# ## A clip
#
# `sample_frames` opens a file with the library decord. If decord cannot read the file, p2r uses the library PyAV. Every sampled frame keeps its true time (`timestamps`, in seconds). `settings` come from the *recipe*, the file with all settings of a run: how many frames, and how large.
# %%
from p2r import data
from p2r.formats import read_questions
from p2r.video import sample_frames

questions = list(read_questions(folder / "train.jsonl"))
about_times = [q for q in questions if q.problem.startswith("At which second")]
question = (about_times or questions)[0]
clip = folder / question.path
settings = data.eval_settings(run.recipe.video)
frames = sample_frames(clip, **settings)
info = frames.info()
for name in ("decoder", "fps", "total_frames", "indices", "timestamps", "height", "width"):
    print(f"{name:>13}: {info[name]}")
# %% [markdown]
# Play the video, then move the slider. With how few frames can you still tell what happens, and when?
# %%
widgets.player(clip, **settings)


# %% [markdown]
# **What this shows.** Two frames show that something moved, but not how. The time of an event is known only up to the gap between two frames. The paper reports cases in which sampling missed the frame that mattered.
#
# ### Exercise 3: what the frames tell about an event
#
# Difficulty ●●○○○ · importance ●●●●○ · 8 minutes
#
# An event happens at `time`. The model sees frames at `timestamps`, in increasing order. The first frame at or after the event shows it. Write `event_window`. It returns a pair: the last sampled time before the event, and the first sampled time at or after it. It returns None if the frames do not show the change: no frame is before the event, or no frame is at or after it.
# %% [exercise]
def event_window(time: float, timestamps: list[float]) -> tuple[float, float] | None:
    """Return the two sampled times between which an event shows."""
    raise NotImplementedError


# %% [solution]
def event_window(time: float, timestamps: list[float]) -> tuple[float, float] | None:
    """Return the two sampled times between which an event shows."""
    before = [each for each in timestamps if each < time]
    after = [each for each in timestamps if each >= time]
    return (before[-1], after[0]) if before and after else None


# %%
event_window = checks.test_event_window(event_window)


# %% [markdown]
# ## The price of a frame
#
# Qwen2.5-VL cuts frames into patches of 14 × 14 pixels. It merges 2 × 2 patches of two frames that follow each other into one token. So one token stands for 28 × 28 pixels of two frames. A frame with more than `max_pixels` pixels is made smaller. Both sides are then rounded to multiples of 28.
#
# ### Exercise 4: count the tokens
#
# Difficulty ●●○○○ · importance ●●●●○ · 5 minutes
#
# Write `video_tokens(frames, height, width)`: the number of tokens of a clip with that many frames. Both sides are multiples of 28. With an odd number of frames, the last one is used twice.
# %% [exercise]
def video_tokens(frames: int, height: int, width: int) -> int:
    """Return the number of video tokens of a clip."""
    raise NotImplementedError


# %% [solution]
def video_tokens(frames: int, height: int, width: int) -> int:
    """Return the number of video tokens of a clip."""
    return (frames + 1) // 2 * (height // 28) * (width // 28)


# %%
video_tokens = checks.test_video_tokens(video_tokens)
# %% [markdown]
# **Predict:** the paper trains with 16 frames of at most 128·28·28 pixels. For *inference*, when the trained model answers questions, it uses 32 frames of at most 256·28·28 pixels. How many times more tokens does inference need?
# %%
from p2r.video import fit_size


def price(frames: int, blocks: int, height: int = 720, width: int = 1280) -> int:
    return video_tokens(frames, *fit_size(height, width, max_pixels=blocks * 28 * 28))


print("training:", price(16, 128), "tokens; inference:", price(32, 256), "tokens")
counts = [4, 8, 16, 32, 64]
prices = {f"{n}·28·28 pixels": [price(count, n) for count in counts] for n in (64, 128, 256)}
plots.lines(counts, prices, "Tokens of a 1280 × 720 clip", "frames", "video tokens")
# %% [markdown]
# **What this shows.** The number of tokens grows with frames times pixels: twice as many of both means four times the tokens (here 4.2 times, because sides are rounded to multiples of 28). You can spend a fixed budget on more frames or on sharper frames, but not on both.
#
# The next widget has an imagined clip of 30 seconds and 1280 × 720 pixels, with four events and three small details. Move both sliders: which events fall between two frames, and which details are too small to read?
# %%
widgets.frame_budget()
# %% [markdown]
# ### Exercise 5: spend a budget
#
# Difficulty ●○○○○ · importance ●●○○○ · 3 minutes
#
# You may spend 2,500 tokens on a clip whose frames have 280 × 504 pixels. What is the largest even number of frames that fits into this budget? Use `video_tokens`.
# %% [exercise]
most = None  # a number of frames
# %% [solution]
most = max(count for count in range(2, 200, 2) if video_tokens(count, 280, 504) <= 2500)
# %%
checks.test_most_frames(most, height=280, width=504, budget=2500)
# %% [markdown]
# ## A clip of your own
#
# Real clips are longer and larger than those of the playground, and their frame rate may vary. Record a clip of 5 to 20 seconds: put three objects on a table, move one of them, hide another.
#
# - **Phone:** record a video and copy the file to this computer.
# - **Webcam on Linux:** `ffmpeg -f v4l2 -i /dev/video0 -t 10 clip.mp4` in a terminal. On a Mac: `ffmpeg -f avfoundation -framerate 30 -i 0 -t 10 clip.mp4`. On Windows, use the app *Camera*.
#
# Put the files into a folder. Set `CLIPS` in the first code cell to the full path of the folder, or start JupyterLab with `P2R_CLIPS=/full/path/of/the/folder make lab`. Film only people who agree. The clips stay on this computer. Without a clip, the next two cells print a note or nothing.
#
# **Predict:** the paper's training size is 16 frames. How many tokens will your clip cost, and how many seconds will lie between two frames?
# %%
from p2r.video import VideoError

own = workshop.own_clips(CLIPS)
shown = None  # the first clip that can be read
for each in own:
    try:
        sampled = sample_frames(each, max_frames=16, max_pixels=128 * 28 * 28)
    except VideoError as error:
        print(error)
        continue
    shown = shown or each
    count, height, width, _ = sampled.frames.shape
    gap = sampled.duration / max(1, count - 1)
    tokens = video_tokens(count, height, width)
    print(f"{each.name}: {sampled.duration:.1f} s, sampled every {gap:.2f} s, {tokens} tokens")
# %%
widgets.player(shown, max_frames=16, max_pixels=128 * 28 * 28) if shown else None
# %% [markdown]
# **What this shows.** Every clip gives at most 16 frames, so in a long clip the frames are far apart. If something moves quickly between two of them, no model can see it.
#
# ## Files that cannot be read
#
# A data set of a hundred thousand clips contains some broken files. Each broken file gives one line with the reason, and the other files are still read.
# %%
bad = run.path("bad", "notes.mp4")
bad.write_text("This is text, not a video.")
for path in (bad, run.path("bad", "missing.mp4")):
    try:
        sample_frames(path)
    except VideoError as error:
        print(error)
# %% [markdown]
# ## From frames to model inputs
#
# One package, `p2r.data`, builds all inputs of a model: for sampling, for the losses and for evaluation.
#
# **Predict:** the tiny model has patches of 7 × 7 pixels, not 14 × 14. It also merges 2 × 2 patches of two frames. How many video tokens do 8 frames of 56 × 56 pixels cost?
# %%
processor = data.load_processor(run.recipe.models.base)
batch = data.encode_prompts(processor, [question], [frames], run.recipe.models.prompt)
grid = batch["video_grid_thw"][0][0].tolist()
tokens = int((batch["input_ids"] == processor.video_token_id).sum())
print(f"grid (time, height, width) in patches: {grid}")
print(f"{tokens} video tokens in a prompt of {batch['input_ids'].shape[1]}")
# %% [markdown]
# **What this shows.** 8 frames make 4 pairs, and each pair has 8 × 8 patches. Four patches make one token: 4 × 8 × 8 / 4 = 64 tokens. The rest of the prompt is text.
#
# ## Summary
#
# Frames are sampled evenly, resized to whole patches, and kept with their true times. The number of tokens grows with frames × pixels. What happens between two frames is lost. Next: [02 · CoT generation](02_generation.ipynb).
