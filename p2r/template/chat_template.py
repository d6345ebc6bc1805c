"""A chat template that asks a plain question with the prompt that a model was trained with.

A model's own chat template only marks the turns of a chat. The template of `ask_in_style` first
rewrites the last turn of the user, then continues with the model's own template. So `vllm serve`
and `apply_chat_template` ask with p2r's prompt, without p2r.
"""

from __future__ import annotations

import json

from p2r.files.prompt_file import is_template
from p2r.template.prompts import ANSWER_FORMS, INSTRUCTIONS, STYLES_WITH_FORM

# False turns the rewriting off.
SWITCH = "enable_process_aware"

# The texts that end the built-in prompts. A turn with such an end is asked as it is.
_ENDS = sorted({text.rpartition("\n")[2] for text in INSTRUCTIONS.values()})

_SOURCE = """\
{#- Asks the last turn of the user with the prompt of the training: the media, the problem, its
options (lines A., B., C. at the end), the form of the answer and the instructions. Variables:
enable_process_aware (default true; false sends the turn as it is) and problem_type (default:
multiple choice if there are options, otherwise free-form). -#}
{%- set p2r_forms = FORMS -%}
{%- macro p2r_prompt(problem, options, problem_type, answer_form, media) -%}
PROMPT
{%- endmacro -%}
{%- macro p2r_ask(text, media) -%}
  {%- set found = namespace(problem='', options=[]) -%}
  {%- for line in text.replace('<|', '< |').strip().split('\\n') -%}
    {%- set letter = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ '[found.options | length] -%}
    {%- set bare = line.strip() -%}
    {%- if bare.startswith((letter ~ '.', letter ~ ')', '(' ~ letter ~ ')')) -%}
      {%- set found.options = found.options + [bare] -%}
    {%- elif found.options -%}
      {%- set found.options = found.options[:-1] + [found.options[-1] ~ '\\n' ~ line] -%}
    {%- else -%}
      {%- set found.problem = found.problem ~ ('\\n' if not loop.first else '') ~ line -%}
    {%- endif -%}
  {%- endfor -%}
  {%- if found.options | length < 2 -%}
    {%- set found.problem = text.replace('<|', '< |') -%}
    {%- set found.options = [] -%}
  {%- endif -%}
  {%- set kind = problem_type | default('multiple choice' if found.options else 'free-form') -%}
  {%- if kind not in p2r_forms -%}
    {{- raise_exception('problem_type must be one of ' ~ p2r_forms | join(', ')) -}}
  {%- endif -%}
  {%- set form = p2r_forms[kind].replace('{media}', media) -%}
  {{- p2r_prompt(found.problem.strip(), found.options, kind, form, media).strip() -}}
{%- endmacro -%}
{%- if enable_process_aware | default(true) -%}
  {%- set p2r = namespace(messages=[], last=-1) -%}
  {%- for message in messages -%}
    {%- if message['role'] == 'user' -%}{%- set p2r.last = loop.index0 -%}{%- endif -%}
  {%- endfor -%}
  {%- for message in messages -%}
    {%- set turn = namespace(text='', parts=[], media=[]) -%}
    {%- if message['content'] is string -%}
      {%- set turn.text = message['content'] -%}
    {%- else -%}
      {%- for part in message['content'] -%}
        {%- if part['type'] == 'text' -%}
          {%- set turn.text = turn.text ~ ('\\n' if turn.text else '') ~ part['text'] -%}
        {%- else -%}
          {%- set turn.media = turn.media + [part] -%}
        {%- endif -%}
      {%- endfor -%}
    {%- endif -%}
    {%- if loop.index0 != p2r.last or turn.text.strip().endswith(ENDS) -%}
      {%- set p2r.messages = p2r.messages + [message] -%}
    {%- else -%}
      {%- set kinds = turn.media | map(attribute='type') | list -%}
      {%- set word = 'media' if kinds | length > 1 else
                     ('image' if kinds and 'image' in kinds[0] else 'video') -%}
      {%- set asked = {'type': 'text', 'text': p2r_ask(turn.text, word)} -%}
      {%- set content = turn.media + [asked] -%}
      {%- set p2r.messages = p2r.messages + [{'role': 'user', 'content': content}] -%}
    {%- endif -%}
  {%- endfor -%}
  {%- set messages = p2r.messages -%}
{%- endif -%}
"""


def ask_in_style(chat_template: str, style: str) -> str:
    """Return a model's chat template with a beginning that asks in a prompt style.

    `style` is a key of `INSTRUCTIONS`, or the text of a prompt file. All media come first, then the
    text. A template that already has the beginning gets the new one.
    """
    _, mark, rest = chat_template.partition(_LAST_LINES)
    chat_template = rest if mark else chat_template
    prompt = style if is_template(style) else _built_in(style)
    return (
        _SOURCE.replace("FORMS", json.dumps(ANSWER_FORMS, ensure_ascii=False))
        .replace("ENDS", f"({', '.join(json.dumps(end, ensure_ascii=False) for end in _ENDS)})")
        .replace("PROMPT", prompt.strip())
        + chat_template
    )


_LAST_LINES = "\n".join(_SOURCE.splitlines()[-2:]) + "\n"


def _built_in(style: str) -> str:
    """Return a built-in prompt as a Jinja template with the variables of a prompt file."""
    text = json.dumps(INSTRUCTIONS[style], ensure_ascii=False)
    lines = f"[problem] + options + [{text}.replace('{{media}}', media)]"
    if style in STYLES_WITH_FORM:
        lines = lines.replace("options + [", "options + [answer_form, ")
    return f"{{{{ ({lines}) | join('\\n') }}}}"
