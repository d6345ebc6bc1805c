"""The process-aware template: prompts, the parser, and the process of every token.

A response has three segments in this order (VideoP2R, arXiv 2511.11113):

    <observation>…</observation> <think>…</think><answer>…</answer>

The observation belongs to the perception process (P), think and answer to the reasoning process
(R).

`parse` lists the faults of a response. A fault breaks the format (R_form of eq. 5) of the processes
in the last column only. NAME is observation (P), think or answer (R).

| fault                   | meaning                                                      | breaks |
|-------------------------|--------------------------------------------------------------|--------|
| NAME missing            | no tag of this segment at all                                | its own|
| NAME malformed          | a misspelt tag: `</<NAME>`, `</ NAME>`, `<Name>`, `<NAME/>`  | its own|
| NAME unclosed           | an opening tag without its closing tag, or truncated         | its own|
| NAME unopened           | a closing tag without its opening tag                        | its own|
| NAME repeated           | more than one opening tag                                    | its own|
| NAME empty              | only white space between the tags                            | its own|
| NAME nested             | opens inside another segment                                 | its own|
| observation misordered  | an observation tag after a think or answer tag               | P, R   |
| think misordered        | a think tag after an answer tag                              | R      |
| text outside perception | text before the observation                                  | P      |
| text outside reasoning  | other text outside the segments: its tokens belong to R      | R      |
| foreign tag             | a tag that is not in the template (`</thunk>`, `<v>`): a note| none   |

White space outside the segments is allowed. Reading a segment is more lenient than its format, so
that one fault does not hide the others:
- observation: the first `<observation>` … `</observation>`; without these exact tags it is None;
- think, answer: malformed tags count as tags. An unclosed segment ends at the next tag, at `</` or
  at the end. If a segment appears several times, `parse` takes the best one. A segment with text
  is better than an empty segment. If that is equal, a segment outside the other segments is better
  than a nested segment, then a closed segment is better than an unclosed one. Otherwise `parse`
  takes the first.
Segments are stripped. An empty closed segment is "", a missing segment is None.
"""

from p2r.template.options import lettered_options, option_labels, option_texts
from p2r.template.parsing import FAULTS, PROCESS_OF, SEGMENTS, Parsed, answer_of, parse
from p2r.template.prompts import (
    ANSWER_FORMS,
    INSTRUCTIONS,
    build_messages,
    build_prompt,
    prompt_hash,
    render,
    style_name,
)
from p2r.template.tokens import (
    VISION_TOKENS,
    banned_token_ids,
    perception_length,
    read_final_text,
    strip_control_tokens,
    token_processes,
)

__all__ = [
    "ANSWER_FORMS",
    "FAULTS",
    "INSTRUCTIONS",
    "PROCESS_OF",
    "SEGMENTS",
    "VISION_TOKENS",
    "Parsed",
    "answer_of",
    "banned_token_ids",
    "build_messages",
    "build_prompt",
    "lettered_options",
    "option_labels",
    "option_texts",
    "parse",
    "perception_length",
    "prompt_hash",
    "read_final_text",
    "render",
    "strip_control_tokens",
    "style_name",
    "token_processes",
]
