// Stories: cases are added to a draft in this browser; the page of a story keeps them in its address.
window.p2rStories = (() => {
  'use strict';
  const MOST = 60;  // as MAX_ITEMS of address.py
  let store, go, say;
  const draft = () => { try { return JSON.parse(store.get('story') || '{}'); } catch { return {}; } };
  const items = () => draft().items ?? [];
  const keep = (title, list) => store.set('story', JSON.stringify({title, items: list}));

  function query(title, list) {
    const pairs = new URLSearchParams([['tab', 'stories']]);
    if (title) pairs.append('title', title);
    for (const {id, note} of list) { pairs.append('story', id); pairs.append('note', note ?? ''); }
    if (document.documentElement.classList.contains('big')) pairs.append('big', '1');
    return '?' + pairs;
  }
  function read(form) {
    return [...form.querySelectorAll('[data-story-item]')].map((item) =>
      ({id: item.dataset.storyItem, note: item.querySelector('textarea').value}));
  }
  function change(form, edit) {
    const list = read(form);
    edit(list);
    const title = form.elements.title.value;
    keep(title, list);
    return go(query(title, list), {history: 'replace'});
  }
  function add(id) {
    const list = items();
    if (list.some((item) => item.id === id)) return say('this case is in the story already');
    if (list.length >= MOST) return say(`a story holds at most ${MOST} cases: remove one first`);
    keep(draft().title ?? '', [...list, {id, note: ''}]);
    say(`added to the story: ${list.length + 1} case${list.length ? 's' : ''}`);
  }

  document.addEventListener('click', (event) => {
    const target = event.target.closest('[data-add-story], [data-move], [data-remove], [data-clear-story]');
    if (!target) return;
    if ('addStory' in target.dataset) return add(target.dataset.addStory);
    if ('clearStory' in target.dataset) { keep('', []); return void go('?tab=stories', {history: 'push'}); }
    const form = target.closest('form');
    const place = [...form.querySelectorAll('[data-story-item]')].indexOf(target.closest('[data-story-item]'));
    change(form, (list) => {
      const [item] = list.splice(place, 1);
      if ('move' in target.dataset) list.splice(Math.max(0, place + Number(target.dataset.move)), 0, item);
    });
  });
  document.addEventListener('change', (event) => {
    const form = event.target.closest?.('form[data-story-form]');
    if (form) change(form, () => {});
  });
  document.addEventListener('submit', (event) => {
    if (event.target.matches('form[data-story-form]')) { event.preventDefault(); change(event.target, () => {}); }
  });
  return {
    use(given) { ({store, go, say} = given); },
    // An empty page of stories shows the draft.
    open(page) {
      const asked = new URLSearchParams(page.query);
      if (page.tab === 'stories' && !asked.has('story') && items().length)
        go(query(draft().title, items()), {history: 'replace'});
    },
    add,
  };
})();
