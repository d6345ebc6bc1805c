// The case browser in the page: fetches the parts of an address and puts them in their places.
// All state is in the address, except the name, the theme and the saved views of the visitor.
window.p2r = (() => {
  'use strict';
  const $ = (selector, within = document) => within.querySelector(selector);
  const parts = {};                 // region -> its current HTML
  const regions = {bar: 'bar', side: 'sidebar', nav: 'nav', main: 'main'};
  let waiting = Promise.resolve();  // each step waits for the step before
  let latest = 0;                   // answers to older requests are ignored
  let first = null;

  const store = {
    get(name) { try { return localStorage.getItem('p2r.' + name) ?? ''; } catch { return ''; } },
    set(name, value) { try { localStorage.setItem('p2r.' + name, value); } catch { /* private */ } },
  };
  const headers = () => ({'x-annotator': encodeURIComponent(store.get('annotator'))});
  const ask = (query) => fetch('p2r/view?' + query, {headers: headers()});

  // ---- from an address to a page

  async function go(href, {history = 'push', refresh = false} = {}) {
    const number = ++latest;
    const query = href.replace(/^[^?]*\??/, '').replace(/#.*$/, '');
    const shell = $('#browser');
    const slow = setTimeout(() => shell?.classList.add('loading'), 250);
    try {
      const answer = first && first.query === query && !refresh ? await first.answer
        : await ask(query + (refresh ? '&refresh=1' : ''));
      first = null;
      if (number !== latest) return;
      if (!answer.ok) throw new Error((await answer.text()).slice(0, 300) || answer.statusText);
      const page = await answer.json();
      await released();
      if (number === latest) show(page, history);
    } catch (error) {
      if (number === latest) complain(error.message);
    } finally {
      clearTimeout(slow);
      if (number === latest) shell?.classList.remove('loading');
    }
  }

  // Wait while a mouse button is down: replacing the element under the pointer loses the click.
  let pressed = false;
  document.addEventListener('pointerdown', () => { pressed = true; }, true);
  for (const end of ['pointerup', 'pointercancel'])
    document.addEventListener(end, () => setTimeout(() => { pressed = false; }), true);
  async function released(tries = 40) {
    while (pressed && tries--) await new Promise((resolve) => setTimeout(resolve, 15));
  }

  function show(page, history) {
    complain('');
    const address = location.pathname + (page.query ? '?' + page.query : '');
    if (history === 'push' && address !== location.pathname + location.search)
      window.history.pushState(null, '', address);
    else window.history.replaceState(null, '', address);
    const shell = $('#browser');
    const turned = shell.dataset.tab !== page.tab;
    shell.dataset.tab = document.body.dataset.tab = page.tab;
    for (const [name, id] of Object.entries(regions)) {
      if (parts[name] === page[name]) continue;
      parts[name] = page[name];
      patch($('#' + id), page[name]);
      if (name === 'main') opened(turned);
    }
    $('#sidebar').hidden = !page.side;
    keepInSight($('#list'), $('#list .item[aria-current=true]'));
    renderViews();
    if (page.tab === 'ask' && turned && new URLSearchParams(page.query).get('case'))
      whenThere('#ask-take', (button) => button.click());
    window.p2rPlots.watch();
  }

  // Replace the HTML of a region. Open folds, the focus and typed text are kept.
  function patch(region, html) {
    const folded = new Map([...region.querySelectorAll('details[id]')].map((d) => [d.id, d.open]));
    const focused = region.contains(document.activeElement) ? document.activeElement : null;
    const kept = focused && {id: focused.id, value: focused.value, start: focused.selectionStart,
      end: focused.selectionEnd, typed: focused.matches('input[type=search], input[inputmode=decimal]')};
    const scroll = $('#list')?.scrollTop;
    region.innerHTML = html;
    for (const [id, open] of folded) {
      const again = document.getElementById(id);
      if (again && id !== 'raw') again.open = open;
    }
    if (region.id === 'sidebar' && scroll && $('#list')) $('#list').scrollTop = scroll;
    const again = kept?.id && document.getElementById(kept.id);
    if (!again) return;
    again.focus({preventScroll: true});
    if (kept.typed) {
      again.value = kept.value;
      if (kept.start !== null) again.setSelectionRange?.(kept.start, kept.end);
    }
  }

  // Scroll only the list, so that the search box above does not move.
  function keepInSight(list, item) {
    if (!item) return;
    const [inner, outer] = [item.getBoundingClientRect(), list.getBoundingClientRect()];
    if (inner.top < outer.top + 44) list.scrollTop += inner.top - outer.top - 44;
    else if (inner.bottom > outer.bottom) list.scrollTop += inner.bottom - outer.bottom + 8;
  }

  function opened(turned) {
    const article = $('#main article.case');
    if (article?.dataset.case !== opened.last || turned) window.scrollTo(0, 0);
    opened.last = article?.dataset.case;
    fillFrames($('#main'));
    fillThumbs();
  }

  function fillFrames(within) {
    for (const place of within.querySelectorAll('[data-frames]')) {
      const id = place.dataset.case;
      fetch(place.dataset.frames).then(async (answer) => {
        if (!answer.ok) throw new Error();  // an error message, not frames
        const html = await answer.text();
        if (place.isConnected && place.dataset.case === id) place.innerHTML = html;
      }).catch(() => { place.textContent = 'The frames could not be loaded. Reload the page to try again.'; });
    }
  }

  const seen = new IntersectionObserver((entries) => {
    for (const {isIntersecting, target} of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      fetch(target.dataset.thumb).then(async (answer) => {
        if (!answer.headers.get('content-type').startsWith('image/')) {
          target.textContent = 'no frame';
          target.title = (await answer.text()).slice(0, 200);
          return;
        }
        const image = new Image();
        image.alt = '';
        image.src = URL.createObjectURL(await answer.blob());
        image.onload = () => {
          URL.revokeObjectURL(image.src);
          image.classList.toggle('pixelated', image.naturalWidth < 160);
        };
        target.replaceChildren(image);
      }).catch(() => { target.textContent = 'no frame'; });
    }
  });
  const fillThumbs = () => document.querySelectorAll('[data-thumb]').forEach((t) => seen.observe(t));

  function complain(message) {
    const place = $('#problem');
    if (place) Object.assign(place, {hidden: !message, textContent: message});
  }

  function whenThere(selector, act, tries = 40) {
    const found = $(selector);
    if (found) act($('button', found) ?? found);
    else if (tries) setTimeout(() => whenThere(selector, act, tries - 1), 100);
  }

  // ---- clicks

  // A clicked link may have been replaced by a new page: find the same choice on that page.
  function asItIsNow(link) {
    if (link.isConnected || !link.dataset.key) return link;
    return $(`[data-key="${CSS.escape(link.dataset.key)}"]`) ?? link;
  }
  const step = (id) => { waiting = waiting.then(() => {
    const link = document.getElementById(id);
    return link?.href ? go(link.href, {history: 'replace'}) : null;
  }); };

  document.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-go]');
    if (link) {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      if (link.dataset.go === 'step') step(link.id);
      else waiting = waiting.then(() => go(asItIsNow(link).href));
      return;
    }
    const target = event.target.closest(
      '[data-seek], [data-copy], [data-theme], [data-help], [data-refresh], [data-credit], '
      + '[data-save-view], [data-drop-view]');
    if (!target) return;
    const data = target.dataset;
    if ('seek' in data) seek(Number(data.seek));
    else if ('copy' in data) copy(target);
    else if ('theme' in data) setTheme(!document.body.classList.contains('dark'));
    else if ('help' in data) $('#help').showModal();
    else if ('refresh' in data) go(location.search, {history: 'replace', refresh: true});
    else if ('credit' in data) window.p2rTokens.setCredit(target);
    else if ('saveView' in data) saveView();
    else if ('dropView' in data) dropView(data.dropView);
  });

  function seek(time) {
    const video = $('#page video.player');
    if (!video) return;
    video.pause();
    video.currentTime = time;
  }

  async function copy(button) {
    const words = button.textContent;
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = 'copied';
    } catch {
      window.prompt('Copy this link:', location.href);
    }
    setTimeout(() => { button.textContent = words; }, 1200);
  }

  function setTheme(dark) {
    document.body.classList.toggle('dark', dark);
    store.set('theme', dark ? 'dark' : 'light');
    window.p2rPlots.restyle();
  }

  // ---- forms

  let typing = null;
  const formQuery = (form) => {
    const pairs = [...new FormData(form)].filter(([, value]) => value !== '');
    for (const range of form.querySelectorAll('[data-range]')) {
      const [low, high] = [...range.querySelectorAll('input')].map((i) => i.value);
      if (low || high) pairs.push([range.dataset.range, `${low}..${high}`]);
    }
    return '?' + new URLSearchParams(pairs);
  };
  const onForm = (event) => {
    const form = event.target.closest?.('form[data-form]');
    if (!form) return;
    clearTimeout(typing);
    const slow = event.type === 'input' && event.target.matches('input:not([type=checkbox])');
    typing = setTimeout(() => go(formQuery(form), {history: 'replace'}), slow ? 180 : 0);
  };
  document.addEventListener('input', onForm);
  document.addEventListener('change', (event) => {
    if (event.target.matches?.('select, input[type=checkbox]')) return;  // the input event has handled these
    onForm(event);
  });
  document.addEventListener('submit', (event) => {
    const form = event.target;
    if (!form.matches('form[data-form], form[data-label], form[data-view]')) return;
    event.preventDefault();
    if ('form' in form.dataset) onForm(event);
    else if ('label' in form.dataset) saveLabel(form);
    else saveView();
  });

  async function saveLabel(form) {
    const said = $('.label-said', form);
    const data = {...Object.fromEntries(new FormData(form)), case: form.dataset.case,
      blind: form.dataset.blind === '1'};
    data.annotator = data.annotator.trim();
    if (!data.annotator) { said.textContent = 'enter your name: a label needs an annotator'; return; }
    said.textContent = 'saving …';
    try {
      const answer = await fetch('p2r/label', {method: 'POST', body: JSON.stringify(data),
        headers: {'content-type': 'application/json'}});
      if (!answer.ok) throw new Error(await answer.text());
      store.set('annotator', data.annotator);
      await go(location.search, {history: 'replace'});
      const after = $('.label-said');
      if (after) after.textContent = 'saved';
    } catch (error) {
      said.textContent = error.message;
    }
  }

  // ---- saved views: named addresses, stored in this browser

  const views = () => { try { return JSON.parse(store.get('views') || '{}'); } catch { return {}; } };
  function renderViews() {
    const place = $('[data-views]');
    if (!place) return;
    const items = Object.entries(views()).map(([name, query]) => {
      const item = document.createElement('p');
      item.className = 'row';
      const link = Object.assign(document.createElement('a'), {href: '?' + query, textContent: name});
      link.dataset.go = '';
      const drop = Object.assign(document.createElement('button'),
        {type: 'button', className: 'button', textContent: '×'});
      drop.setAttribute('aria-label', 'delete ' + name);
      drop.dataset.dropView = name;
      item.append(link, drop);
      return item;
    });
    const form = document.createElement('form');
    form.dataset.view = '';
    form.className = 'row';
    form.innerHTML = '<input name="view" id="view-name" maxlength="60" placeholder="name of this view"'
      + ' aria-label="name of this view" autocomplete="off">'
      + '<button class="button" type="submit">save</button>';
    const typed = $('#view-name')?.value;
    const focused = document.activeElement?.id === 'view-name';
    place.replaceChildren(...items, form);
    if (typed) $('#view-name').value = typed;
    if (focused) $('#view-name').focus();
  }
  function saveView() {
    const name = $('#view-name').value.trim();
    if (!name) return;
    $('#view-name').value = '';
    store.set('views', JSON.stringify({...views(), [name]: location.search.slice(1)}));
    renderViews();
  }
  function dropView(name) {
    const kept = views();
    delete kept[name];
    store.set('views', JSON.stringify(kept));
    renderViews();
  }

  // ---- keys

  const keys = {
    j: () => step('next-case'), k: () => step('previous-case'),
    ']': () => step('next-rollout'), '[': () => step('previous-rollout'),
    ' ': () => { const v = $('#page video.player'); if (v) v.paused ? v.play() : v.pause(); return v; },
    f: () => search(),
    '/': () => search(),
    c: () => $('#compare-link')?.click(),
    l: () => { const form = $('#label'); form?.scrollIntoView({block: 'center'});
      $('input[type=radio]:checked, input[type=radio]', form ?? document)?.focus(); return form; },
    '?': () => $('#help').showModal(),
  };
  function search() {
    const box = $('#search');
    if (box) { box.focus(); box.select(); return; }
    const query = new URLSearchParams(location.search);
    query.delete('tab');
    go('?' + query).then(() => $('#search')?.focus());
  }
  document.addEventListener('keydown', (event) => {
    if (event.target.closest?.('[role=listbox]') && window.p2rTokens.move(event)) return;
    if (event.ctrlKey || event.metaKey || event.altKey || $('#help')?.open) return;
    if (event.target.closest?.('input, textarea, select, [contenteditable=true]')) {
      if (event.key === 'Escape') event.target.blur();
      if (!event.target.matches('[type=radio]') || event.key === ' ') return;
    }
    if (event.key === ' ' && event.target.closest?.('button, a, summary, video')) return;
    const act = keys[event.key];
    if (act && act() !== null) event.preventDefault();
  });

  // ---- media

  // Mark the frame at the current time of the player.
  document.addEventListener('timeupdate', (event) => {
    const now = event.target.currentTime + 0.001;
    const frames = [...document.querySelectorAll('#page [data-seek]')];
    const at = frames.filter((frame) => Number(frame.dataset.seek) <= now).at(-1);
    for (const frame of frames) frame.classList.toggle('at', frame === at);
  }, true);
  document.addEventListener('error', (event) => {
    const note = event.target.matches?.('video.player') && event.target.nextElementSibling;
    if (note) note.hidden = false;
  }, true);
  window.addEventListener('popstate', () => go(location.search, {history: 'replace'}));

  // Request the first page while Gradio is still loading.
  if (!document.querySelector('meta[name=login]')) {
    const query = location.search.slice(1);
    first = {query, answer: ask(query + '&refresh=1')};
    first.answer.catch(() => {});
  }
  return {
    start() {
      const theme = store.get('theme');
      if (theme) document.body.classList.toggle('dark', theme === 'dark');
      go(location.search, {history: 'replace'});
    },
  };
})();
