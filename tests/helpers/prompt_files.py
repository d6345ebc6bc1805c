"""Prompt files with the structure of the paper's prompts (Figs. 7, 8, 13), in our words."""

FULL = """\
{{ problem }}
{% for option in options %}
{{ option }}
{% endfor %}
Solve it in three steps and show each step in its own tags.
Step 1, <observation> </observation>: one paragraph on what in the {{ media }} matters here.
Step 2, <think> </think>: reason from step 1 to a result, and check it.
Step 3, <answer> </answer>: {% if problem_type == "multiple choice" %}one letter.{% else %}\
{{ answer_form }}{% endif %}

Form: <observation>...</observation> <think>...</think><answer>...</answer>
"""

THINK = """\
{{ problem }}
{% for option in options %}
{{ option }}
{% endfor %}
First reason within <think> </think>, then answer within <answer> </answer>. {{ answer_form }}
"""

JUDGE = """\
A writer saw the {{ media }} and wrote this about it.
<observation>
{{ observation }}
</observation>
Question: {{ problem }}
{% for option in options %}
{{ option }}
{% endfor %}
Right answer: {{ answer }}
Does the text support the right answer? Explain in a few words, then write Yes or No inside
<judgement> </judgement>.
"""
