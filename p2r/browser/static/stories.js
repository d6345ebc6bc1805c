// Stories: cases are added to a draft in this browser; the page of a story keeps them in its address.
// The page of a story that is not the draft, for example a colleague's, does not change the draft.
window.p2rStories = (() => {
  'use strict';
  const MOST = 60;  // as MAX_ITEMS of address.py
  const LONGEST = 30_000;  // letters of an address: a server refuses a request of 64 KB
  let store, go, say, forget, typing;
  let own = false;  // whether the page shows the draft
  const draft = () => { try { return JSON.parse(store.get('story') || '{}'); } catch { return {}; } };
  const items = () => draft().items ?? [];
  const drafted = () => query(draft().title, items());
  const keep = (title, list) => store.set('story', JSON.stringify({title, items: list}));
  const formShown = () => document.querySelector('form[data-story-form]');

  function query(title, list) {
    const pairs = new URLSearchParams([['tab', 'stories']]);
    tell(pairs, title, list);
    if (document.documentElement.classList.contains('big')) pairs.append('big', '1');
    return '?' + pairs;
  }
  // Write a story into the pairs of an address.
  function tell(pairs, title, list) {
    for (const name of ['title', 'story', 'note']) pairs.delete(name);
    if (title) pairs.append('title', title);
    for (const {id, note} of list) { pairs.append('story', id); pairs.append('note', note ?? ''); }
  }
  // Return an address with another story.
  function retold(address, title, list) {
    const pairs = new URLSearchParams(address);
    tell(pairs, title, list);
    return '?' + pairs;
  }
  // Return the story of an address as the query of its page.
  function told(address) {
    const pairs = new URLSearchParams(address);
    const notes = pairs.getAll('note');
    return query(pairs.get('title'), pairs.getAll('story').map((id, at) => ({id, note: notes[at]})));
  }
  function read(form) {
    return [...form.querySelectorAll('[data-story-item]')].map((item) =>
      ({id: item.dataset.storyItem, note: item.querySelector('textarea').value}));
  }
  function fits(title, list) {
    if (query(title, list).length <= LONGEST) return true;
    say('the story is too long for an address: shorten its notes, or remove a case');
    return false;
  }
  function change(form, edit) {
    const list = read(form);
    edit(list);
    const title = form.elements.title.value;
    if (!fits(title, list)) return;
    clearTimeout(typing);
    if (own) keep(title, list);
    return go(query(title, list), {history: 'replace'});
  }
  // Typed words go into the draft at once and into all addresses soon. Nothing is drawn again, so no letter is lost.
  function type(form, soon) {
    const [title, list] = [form.elements.title.value, read(form)];
    if (!fits(title, list)) return;
    if (own) keep(title, list);
    clearTimeout(typing);
    typing = setTimeout(() => { if (form.isConnected) readdress(title, list); }, soon);
  }
  function readdress(title, list) {
    window.history.replaceState(null, '', location.pathname + retold(location.search, title, list));
    for (const link of document.querySelectorAll('#browser a[href*="story="]')) {
      const [place, asked] = link.getAttribute('href').split('?');
      link.setAttribute('href', place + retold(asked, title, list));
    }
    forget();
  }
  function add(id) {
    const list = items();
    const title = draft().title ?? '';
    if (list.some((item) => item.id === id)) return say('this case is in the story already');
    if (list.length >= MOST) return say(`a story holds at most ${MOST} cases: remove one first`);
    const longer = [...list, {id, note: ''}];
    if (!fits(title, longer)) return;
    const shown = list.length && told(location.search) === drafted();
    keep(title, longer);
    if (shown) go(retold(location.search, title, longer), {history: 'replace'});  // the address has the draft
    say(`added to the story: ${list.length + 1} case${list.length ? 's' : ''}`);
  }
  // Add the cases of the shown story to the draft.
  function copy(form) {
    const known = new Set(items().map((item) => item.id));
    const list = [...items(), ...read(form).filter((item) => !known.has(item.id))];
    const title = draft().title || form.elements.title.value;
    if (list.length > MOST) return say(`a story holds at most ${MOST} cases: remove some first`);
    if (!fits(title, list)) return;
    keep(title, list);
    go(query(title, list));
  }

  document.addEventListener('click', (event) => {
    const target = event.target.closest(
      '[data-add-story], [data-move], [data-remove], [data-clear-story], [data-copy-story]');
    if (!target) return;
    if ('addStory' in target.dataset) return add(target.dataset.addStory);
    if ('copyStory' in target.dataset) return copy(formShown());
    if ('clearStory' in target.dataset) { keep('', []); return void go('?tab=stories', {history: 'push'}); }
    const form = target.closest('form');
    const place = [...form.querySelectorAll('[data-story-item]')].indexOf(target.closest('[data-story-item]'));
    change(form, (list) => {
      const [item] = list.splice(place, 1);
      if ('move' in target.dataset) list.splice(Math.max(0, place + Number(target.dataset.move)), 0, item);
    });
  });
  // Browsers refuse too many new addresses, so an address waits for the end of the typing.
  for (const [kind, soon] of [['input', 400], ['change', 0]])
    document.addEventListener(kind, (event) => {
      const form = event.target.closest?.('form[data-story-form]');
      if (form) type(form, soon);
    });
  document.addEventListener('submit', (event) => {
    if (event.target.matches('form[data-story-form]')) { event.preventDefault(); type(event.target, 0); }
  });
  return {
    use(given) { ({store, go, say, forget} = given); },
    // An empty page of stories shows the draft.
    open(page) {
      if (page.tab !== 'stories') return;
      const shared = new URLSearchParams(page.query).has('story');
      if (!shared && items().length) return void go(drafted(), {history: 'replace'});
      own = !shared || told(page.query) === drafted();
      const note = document.querySelector('[data-shared-story]');
      if (!note) return;
      note.hidden = own;
      note.querySelector('a').hidden = !items().length;
      document.querySelector('[data-clear-story]').hidden = !own;
    },
    add,
  };
})();
