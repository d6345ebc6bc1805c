// The tokens of a response: one tab stop, the arrow keys move between tokens.
window.p2rTokens = (() => {
  'use strict';
  function setCredit(button) {
    const card = button.closest('.credit');
    card.dataset.scheme = button.dataset.credit;
    for (const each of card.querySelectorAll('[data-credit]'))
      each.setAttribute('aria-pressed', String(each === button));
    const at = card.querySelector('.tok.at');
    if (at) sayToken(card, at);
  }
  function sayToken(card, token) {
    const process = token.closest('.process').dataset;
    const number = token.id.slice(4);
    card.querySelector('.token-said').textContent = `token ${Number(number) + 1} “${token.textContent}”: `
      + `${process.process}, ${process.said}`;
  }
  function moveToken(event) {
    const moves = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -Infinity, End: Infinity};
    if (!(event.key in moves)) return false;
    const strip = event.target.closest('[role=listbox]');
    const tokens = [...strip.querySelectorAll('.tok')];
    const at = tokens.findIndex((token) => token.classList.contains('at'));
    const next = Math.max(0, Math.min(tokens.length - 1, at < 0 ? 0 : at + moves[event.key]));
    pickToken(strip, tokens[next]);
    event.preventDefault();
    return true;
  }
  function pickToken(strip, token) {
    strip.querySelector('.tok.at')?.classList.remove('at');
    strip.querySelector('[aria-selected]')?.removeAttribute('aria-selected');
    token.classList.add('at');
    token.setAttribute('aria-selected', 'true');
    strip.setAttribute('aria-activedescendant', token.id);
    token.scrollIntoView({block: 'nearest'});
    sayToken(strip.closest('.credit'), token);
  }
  document.addEventListener('click', (event) => {
    const token = event.target.closest('.tok');
    if (token) pickToken(token.closest('[role=listbox]'), token);
  });
  return {move: moveToken, setCredit};
})();
