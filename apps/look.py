"""The look of the case browser: theme, style sheet and the little script it needs.

No font, style or script comes from elsewhere: the browser works without a network.
"""

from __future__ import annotations

import gradio as gr


def make_theme() -> gr.themes.Base:
    """A plain theme on the system's own fonts."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="md",
        font=("system-ui", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"),
        font_mono=("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"),
    )


# A click on anything with data-action is an event of its component; links still open in new tabs.
ACTIONS = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-action]');
  if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  trigger('click', {...target.dataset});
});
"""

# The open row stays in sight.
ON_LIST = """
watch('value', () => {
  element.querySelector('[aria-current=true]')?.scrollIntoView({block: 'nearest'});
});
"""

# A new case sets the address (permalink) and fetches its frames; late ones of another are dropped.
ON_CASE = """
let open = null;
watch('value', () => {
  const id = element.querySelector('article')?.dataset.case;
  if (!id) return;
  if (open !== null && open !== id) window.scrollTo(0, 0);
  open = id;
  const address = new URL(location.href);
  address.searchParams.set('case', id);
  history.replaceState(null, '', address);
  const frames = element.querySelector('[data-frames]');
  if (!frames) return;
  fetch(frames.dataset.frames)
    .then((answer) => answer.text())
    .then((html) => {
      if (frames.isConnected && frames.dataset.case === id) frames.innerHTML = html;
    });
});
"""

SCRIPT = """
document.addEventListener('keydown', (event) => {
  const typing = event.target.closest?.('input, textarea, select, [contenteditable=true]');
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'j') document.getElementById('next-case')?.click();
  if (event.key === 'k') document.getElementById('previous-case')?.click();
  if (event.key === '/') {
    event.preventDefault();
    document.querySelector('#search textarea, #search input')?.focus();
  }
});
document.addEventListener('click', (event) => {
  const target = event.target.closest('[data-seek], [data-copy], [data-theme]');
  if (!target) return;
  if ('seek' in target.dataset) {
    const video = document.querySelector('video.player');
    if (!video) return;
    video.pause();
    video.currentTime = Number(target.dataset.seek);
  } else if ('copy' in target.dataset) {
    navigator.clipboard.writeText(location.href).then(() => {
      const label = target.textContent;
      target.textContent = 'copied';
      setTimeout(() => { target.textContent = label; }, 1200);
    });
  } else {
    document.body.classList.toggle('dark');
  }
});
// The frame at the player's time is marked.
document.addEventListener('timeupdate', (event) => {
  const now = event.target.currentTime + 0.001;
  const frames = [...document.querySelectorAll('[data-seek]')];
  const at = frames.filter((frame) => Number(frame.dataset.seek) <= now).at(-1);
  for (const frame of frames) frame.classList.toggle('at', frame === at);
}, true);
document.addEventListener('error', (event) => {
  const note = event.target.matches?.('video.player') && event.target.nextElementSibling;
  if (note) note.hidden = false;
}, true);
"""

CSS = """
:root {
  --ink: #0f172a; --soft: #55627a; --line: #d8dfe9; --card: #ffffff; --page: #f4f6fa;
  --good: #13653a; --good-bg: #dcf5e5; --bad: #a01c2c; --bad-bg: #fde4e6;
  --dim: #4b586e; --dim-bg: #e8ecf2; --warn: #874a05; --warn-bg: #fdf0d5;
  --see: #0b5f8a; --judge: #74500a; --think: #5b3aa8; --said: #334155; --focus: #2563eb;
}
.dark {
  --ink: #e8edf5; --soft: #a3b0c4; --line: #2c384b; --card: #151d2b; --page: #0c121c;
  --good: #7ee2a8; --good-bg: #123524; --bad: #ffa3ab; --bad-bg: #431a20;
  --dim: #b4c0d2; --dim-bg: #243044; --warn: #f8c676; --warn-bg: #3d2c0c;
  --see: #6cc5f2; --judge: #e8bd62; --think: #bda4ff; --said: #cbd5e1; --focus: #7fb0ff;
}
body, gradio-app, .gradio-container { background: var(--page) !important; }
.gradio-container { color: var(--ink); padding: 0 !important; overflow: visible !important; }
.gradio-container .main.fillable { padding: 0 !important; max-width: none !important; }
footer { display: none !important; }
#browser .html-container { padding: 0; }
#browser { padding: 0; gap: 0; flex-wrap: nowrap; align-items: flex-start; }
#browser h1, #browser h2, #browser h3, #browser p { margin: 0; color: inherit; }
#browser button, #browser a { font: inherit; color: inherit; }
#browser :is(button, a, summary, .scroll):focus-visible {
  outline: 2px solid var(--focus); outline-offset: 1px; }
#browser small { color: var(--soft); font-size: .8em; }
#browser kbd { font: 600 .75em ui-monospace, monospace; border: 1px solid var(--line);
  border-radius: 4px; padding: 0 .35em; color: var(--soft); background: var(--page); }

#sidebar { flex: 0 0 380px !important; width: 380px !important; position: sticky; top: 0;
  height: 100vh; padding: 14px 12px 0 16px; gap: 10px;
  background: var(--card); border-right: 1px solid var(--line); overflow-y: auto;
  flex-wrap: nowrap !important; }
#sidebar > * { flex: none; }
#title h1 { font-size: 1.15rem; font-weight: 700; }
#title h1 span { font-weight: 400; color: var(--soft); }
#title p { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
#sidebar > #list { flex: 1 1 0; min-height: 260px; }
#filters .form { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; border: 0;
  background: none; box-shadow: none; }
#filters .form > * { padding: 0; border: 0; background: none; min-width: 0; }
#filters .form > :has(input[type=checkbox]) { align-self: center; }

.quadrants { width: 100%; border-collapse: separate; border-spacing: 4px; font-size: .85rem;
  table-layout: fixed; }
.quadrants caption { text-align: left; color: var(--soft); padding: 0 4px; }
.quadrants :is(td, th) { padding: 0; font-weight: 400; height: 1px; }
.quadrants button { width: 100%; height: 100%; border: 1px solid transparent;
  border-radius: 8px; cursor: pointer; text-align: left;
  padding: 4px 8px; background: none; line-height: 1.25; }
.quadrants .heading { color: var(--ink); font-weight: 600; }
.quadrants tbody .heading small { display: block; }
.quadrants .cell { min-height: 62px; }
.quadrants .cell b { font-size: 1.25rem; }
.quadrants .cell span { display: block; font-size: .78rem; }
.quadrants .match { background: var(--good-bg); color: var(--good); }
.quadrants .mismatch { background: var(--warn-bg); color: var(--warn); }
.quadrants .both-bad { background: var(--bad-bg); color: var(--bad); }
.quadrants .unknown { background: var(--dim-bg); color: var(--dim); }
.quadrants .cell small { color: inherit; }
.quadrants button:hover { border-color: var(--soft); }
.quadrants button[aria-pressed=true] { border-color: var(--ink);
  box-shadow: 0 0 0 1px var(--ink); }
.quadrants .corner button[aria-pressed=true] { border-color: transparent; box-shadow: none;
  background: var(--dim-bg); }

#sidebar > #list { overflow-y: auto !important; margin-right: -12px; padding: 0 8px 12px 0; }
#list .pager { display: flex; align-items: center; gap: 4px; padding: 2px 4px 6px 8px;
  color: var(--soft); font-size: .85rem; position: sticky; top: 0; z-index: 1;
  background: var(--card); }
#list .pager span { flex: 1; }
.pager button, .nav button { border: 1px solid var(--line); border-radius: 7px; padding: 3px 10px;
  background: var(--card); cursor: pointer; }
:is(.pager, .nav) button:hover:enabled { border-color: var(--soft); }
:is(.pager, .nav) button:disabled { opacity: .45; cursor: default; }
.item { display: block; scroll-margin: 40px 0 8px; padding: 8px 10px;
  border-radius: 8px; text-decoration: none !important;
  border-left: 3px solid transparent; }
.item:hover { background: var(--page); }
.item[aria-current=true] { background: var(--page); border-left-color: var(--focus); }
.item .q { display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical;
  overflow: hidden; line-height: 1.35; overflow-wrap: anywhere; }
.item .meta { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; margin-top: 4px; }
.item .where { color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }

.chip { display: inline-block; border-radius: 999px; padding: 1px 9px; font-size: .8rem;
  font-weight: 500; line-height: 1.5; background: var(--dim-bg); color: var(--dim);
  overflow-wrap: anywhere; }
.chip.good { background: var(--good-bg); color: var(--good); }
.chip.bad { background: var(--bad-bg); color: var(--bad); }
.chip.big { font-size: .95rem; font-weight: 650; padding: 3px 13px; }

#main { flex: 1 1 0 !important; padding: 0 24px 40px; gap: 0; min-width: 0 !important; }
#nav { position: sticky; top: 0; z-index: 5; background: var(--page); }
.nav { display: flex; align-items: center; gap: 8px; padding: 12px 0 10px; font-size: .9rem; }
.nav .place { min-width: 9em; text-align: center; color: var(--soft); }
.nav .spring { flex: 1; }
.case { font-size: 1rem; line-height: 1.5; }
.case header { padding: 4px 0 14px; }
.case .about, .headline { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.headline { margin: 10px 0 !important; }
.headline em { color: var(--soft); font-size: 1.05rem; }
.case h2 { font-size: 1.3rem; font-weight: 650; line-height: 1.35; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.options { list-style: none; padding: 0; margin: 8px 0 0; display: flex; flex-wrap: wrap;
  gap: 2px 22px; }
.options li { overflow-wrap: anywhere; display: flex; flex-wrap: wrap; gap: 4px; }
.truth { color: var(--soft); margin-top: 6px !important; overflow-wrap: anywhere; }
.truth b { color: var(--ink); }
.columns { display: grid; grid-template-columns: minmax(300px, 5fr) minmax(340px, 6fr); gap: 18px;
  align-items: start; }
.columns > * { min-width: 0; }
.left { position: sticky; top: 52px; }
.right { display: grid; gap: 12px; }
.player { display: block; width: 100%; max-height: 40vh; background: #000; border-radius: 10px;
  object-fit: contain; }
.unplayable, .warning { font-size: .85rem; color: var(--warn); background: var(--warn-bg);
  border-radius: 8px; padding: 6px 10px; margin: 8px 0 !important; }
.no-media { border: 2px dashed var(--line); border-radius: 10px; padding: 34px 20px;
  text-align: center; color: var(--soft); overflow-wrap: anywhere; }
.no-media b { display: block; color: var(--ink); }
.frames { margin-top: 12px; }
.frames h3 { font-size: .9rem; font-weight: 650; display: flex; flex-wrap: wrap; gap: 4px 6px;
  align-items: center; margin-bottom: 6px !important; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)); gap: 6px; }
.strip button { border: 2px solid transparent; border-radius: 8px; padding: 0; overflow: hidden;
  background: var(--card); cursor: pointer; text-align: center; }
.strip button:hover { border-color: var(--soft); }
.strip button.at { border-color: var(--focus); }
.strip img { display: block; width: 100%; height: auto; margin: 0; border-radius: 0; }
.strip img.pixelated { image-rendering: pixelated; }
.strip span { font: 500 .75rem ui-monospace, monospace; color: var(--soft); }

.panel { --tone: var(--said); background: var(--card); border: 1px solid var(--line);
  border-left: 4px solid var(--tone); border-radius: 10px; padding: 12px 16px; }
.panel.see { --tone: var(--see); }
.panel.judge { --tone: var(--judge); }
.panel.think { --tone: var(--think); }
.panel h3 { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; font-size: .95rem;
  font-weight: 650; color: var(--tone); margin-bottom: 6px !important; }
.panel h3 i { font-style: normal; font-size: .8rem; width: 1.55em; height: 1.55em; display: grid;
  place-items: center; border-radius: 50%; background: var(--tone); color: var(--card); }
.notes { display: flex; flex-wrap: wrap; gap: 5px; margin-left: auto; }
.frames .notes { margin-left: 0; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.absent, .empty { color: var(--soft); font-style: italic; }
.empty { padding: 24px 8px; }
.reward { margin-top: 8px !important; font-size: .88rem; color: var(--soft); }
.reward b { color: var(--ink); }
.exchange { display: flex; flex-wrap: wrap; gap: 6px 18px; align-items: end; }
.exchange span { overflow-wrap: anywhere; }
.exchange small { display: block; }
.exchange b { font-size: 1.15rem; white-space: pre-wrap; }
.exchange .arrow { font-size: 1.3rem; color: var(--soft); }

.responses, .case details { margin-top: 16px; background: var(--card); border-radius: 10px;
  border: 1px solid var(--line); padding: 10px 16px; }
.responses h3 { font-size: .95rem; font-weight: 650; margin-bottom: 6px !important; }
.scroll { overflow-x: auto; }
.responses table { width: 100%; border-collapse: collapse; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
.responses th { text-align: left; color: var(--soft); font-weight: 500; }
.responses :is(td, th) { padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
.responses tr:last-child td { border-bottom: 0; }
.responses tr[aria-current=true] { font-weight: 650; }
.responses a { color: var(--focus) !important; text-decoration: underline; }
.responses .said { max-width: 22em; overflow: hidden; text-overflow: ellipsis; }
.case summary { cursor: pointer; font-size: .95rem; font-weight: 650; }
.case pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 8px 0 0; font-size: .88rem;
  background: none; color: inherit; }
.case dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 8px 0 0;
  font-size: .88rem; }
.case dt { color: var(--soft); }
.case dd { margin: 0; overflow-wrap: anywhere; }
.case dd span { margin-right: 12px; }
@media (max-width: 900px) {
  #browser { flex-wrap: wrap; }
  #sidebar, #main { flex-basis: 100% !important; }
  #sidebar { position: static; height: auto; }
  #sidebar > #list { max-height: 50vh; }
  .columns { grid-template-columns: 1fr; }
  .left { position: static; }
}
"""
