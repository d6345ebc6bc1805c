// The case browser in the page: fetches the parts of an address and puts them in their places.
// All state is in the address, except the name, the theme and the saved views of the visitor.
window.p2r = (() => {
  'use strict';
  const $ = (selector, within = document) => within.querySelector(selector);
  const parts = {};                 // region -> its current HTML
  const evidence = window.p2rEvidence, stories = window.p2rStories;
  const regions = {bar: 'bar', side: 'sidebar', nav: 'nav', main: 'main'};
  let waiting = Promise.resolve();  // each step waits for the step before
  let latest = 0;                   // answers to older requests are ignored
  let asking = 0;                   // requests without an answer yet
  let first = null;

  const store = {
    get(name) { try { return localStorage.getItem('p2r.' + name) ?? ''; } catch { return ''; } },
    set(name, value) { try { localStorage.setItem('p2r.' + name, value); } catch { /* private */ } },
  };
  const headers = () => ({'x-annotator': encodeURIComponent(store.get('annotator'))});
  const ask = (query) => fetch('p2r/view?' + query, {headers: headers()});

  // ---- from an address to a page

  async function go(href, {history = 'push', refresh = false, focus = ''} = {}) {
    const number = ++latest;
    const query = href.replace(/^[^?]*\??/, '').replace(/#.*$/, '');
    const shell = $('#browser');
    asking += 1;
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
      if (number === latest && focus) document.querySelector(focus)?.focus();
    } catch (error) {
      if (number === latest) complain(error.message);
    } finally {
      asking -= 1;
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
    document.title = page.title;
    count = page.count;
    document.documentElement.classList.toggle('big', page.big);
    const turned = shell.dataset.tab !== page.tab;
    shell.dataset.tab = document.body.dataset.tab = page.tab;
    for (const [name, id] of Object.entries(regions)) {
      if (parts[name] === page[name]) continue;
      parts[name] = page[name];
      patch($('#' + id), page[name]);
      if (name === 'bar') showTab();
      if (name === 'main') opened(turned);
    }
    $('#sidebar').hidden = !page.side;
    fold();
    keepInSight($('#list'), $('#list .item[aria-current=true]'));
    renderViews();
    if (page.tab === 'ask' && turned && new URLSearchParams(page.query).get('case'))
      whenThere('#ask-take', (button) => button.click());
    window.p2rPlots.watch();
    stories.open(page);
  }

  // On a narrow window the tabs are one line that scrolls sideways: arrows hint at hidden ones.
  function hintTabs() {
    const tabs = $('#bar nav');
    const hidden = tabs ? tabs.scrollWidth - tabs.clientWidth : 0;
    tabs?.classList.toggle('more-left', tabs.scrollLeft > 4);
    tabs?.classList.toggle('more-right', tabs.scrollLeft < hidden - 4);
  }
  function showTab() {
    const [tabs, open] = [$('#bar nav'), $('#bar nav [aria-current]')];
    if (open) tabs.scrollLeft = open.offsetLeft - (tabs.clientWidth - open.offsetWidth) / 2;
    hintTabs();
  }
  document.addEventListener('scroll', (event) => { if (event.target.matches?.('#bar nav')) hintTabs(); }, true);

  // The list can be folded away. On a phone and on a projector it is folded until it is asked for.
  let folded = null;
  const onPhone = () => window.matchMedia('(max-width: 48em)').matches;
  const narrow = () => onPhone() || document.documentElement.classList.contains('big');
  function fold(given = folded) {
    folded = given;
    const shell = $('#browser');
    shell.dataset.side = folded ?? (narrow() && shell.dataset.tab !== 'compare') ? 'folded' : 'open';
    const button = $('[data-fold]');
    button?.setAttribute('aria-expanded', String(shell.dataset.side === 'open'));
    if (button) button.hidden = $('#sidebar').hidden;
  }

  // The fields of the label form that differ from the saved label.
  const unsaved = () => [...($('#label form')?.elements ?? [])].filter((field) => field.name
    && (field.options ? [...field.options].some((one) => one.selected !== one.defaultSelected)
      : field.checked !== field.defaultChecked || field.value !== field.defaultValue));
  // Put them into the new form of the same case, except the answer to "is it me?".
  function bringBack(fields, form) {
    if (form?.dataset.case !== fields[0]?.form.dataset.case) return;
    for (const {name, type, value, checked} of fields) {
      const again = [...form.elements].find((field) => field.name === name && (type !== 'radio' || field.value === value));
      if (!again || name === 'is_me') continue;
      if (type === 'radio') again.checked = checked;
      else again.value = value;
    }
  }

  // Replace the HTML of a region. Open folds, the focus and typed text are kept.
  function patch(region, html) {
    const folded = new Map([...region.querySelectorAll('details[id]')].map((d) => [d.id, d.open]));
    const focused = region.contains(document.activeElement) ? document.activeElement : null;
    const kept = focused && {id: focused.id, value: focused.value, start: focused.selectionStart,
      end: focused.selectionEnd, typed: focused.matches('input[type=search], input[inputmode=decimal]')};
    const scroll = $('#list')?.scrollTop;
    const shown = listShown();
    const labelled = unsaved().filter((field) => region.contains(field));
    fill(region, html);
    bringBack(labelled, $('#label form'));
    for (const [id, open] of folded) {
      const again = document.getElementById(id);
      if (again && id !== 'raw') again.open = open;
    }
    // Another list begins at its first row.
    if (region.id === 'sidebar' && scroll && $('#list') && shown === listShown()) $('#list').scrollTop = scroll;
    const again = kept?.id && document.getElementById(kept.id);
    if (!again) return;
    again.focus({preventScroll: true});
    if (kept.typed) {
      again.value = kept.value;
      if (kept.start !== null) again.setSelectionRange?.(kept.start, kept.end);
    }
  }

  const listShown = () => $('#find')?.dataset.list;

  // Scroll only the list, so that the search box above does not move.
  function keepInSight(list, item) {
    if (!item) return;
    const [inner, outer] = [item.getBoundingClientRect(), list.getBoundingClientRect()];
    if (inner.top < outer.top + 44) list.scrollTop += inner.top - outer.top - 44;
    else if (inner.bottom > outer.bottom) list.scrollTop += inner.bottom - outer.bottom + 8;
    // Many filters can push the list below the window: then the whole side moves.
    const side = $('#sidebar');
    const below = item.getBoundingClientRect().bottom - side.getBoundingClientRect().bottom;
    if (below > 0 && getComputedStyle(side).position === 'sticky') side.scrollTop += below + 8;
  }

  function opened(turned) {
    const article = $('#main article.case');
    if (article?.dataset.case !== opened.last || turned) window.scrollTo(0, 0);
    opened.last = article?.dataset.case;
    fillFrames($('#main'));
  }

  function fillFrames(within) {
    for (const place of within.querySelectorAll('[data-frames]')) {
      const id = place.dataset.case;
      fetch(place.dataset.frames).then(async (answer) => {
        if (!answer.ok) throw new Error();  // an error message, not frames
        const html = await answer.text();
        if (place.isConnected && place.dataset.case === id) { place.innerHTML = html; evidence.drawTrack(); }
      }).catch(() => { place.textContent = 'The frames could not be loaded. Reload the page to try again.'; });
    }
  }

  // ---- small pictures: only those in sight, two at a time. A browser opens at most six connections to a server.

  const loading = new Set();
  let queue = [];
  const inSight = new IntersectionObserver((entries) => {
    for (const {isIntersecting, target} of entries) {
      if (!isIntersecting) continue;
      inSight.unobserve(target);
      queue.push(target);
    }
    loadNext();
  }, {scrollMargin: '200px'});
  function loadNext() {
    queue = queue.filter((image) => image.isConnected);
    for (const image of loading) {
      if (image.isConnected) continue;
      loading.delete(image);
      image.removeAttribute('src');  // ends the request
    }
    while (queue.length && loading.size < 2) {
      const image = queue.shift();
      loading.add(image);
      image.src = image.dataset.thumb;
    }
  }
  function loaded({type, target}) {
    if (!target.matches?.('.thumb img')) return;
    target.classList.toggle('pixelated', target.naturalWidth < 160);
    if (type === 'error') {
      target.parentNode.classList.add('none');
      target.parentNode.title = 'no frame: open the case to see why';
    }
    loading.delete(target);
    loadNext();
  }
  for (const kind of ['load', 'error']) document.addEventListener(kind, loaded, true);

  // Replace the HTML of a region, but keep the pictures that it already shows.
  function fill(region, html) {
    const pictures = () => region.querySelectorAll('.thumb img');
    const shown = new Map([...pictures()].map((image) => [image.dataset.thumb, image]));
    region.innerHTML = html;
    for (const image of pictures()) {
      const kept = shown.get(image.dataset.thumb);
      shown.delete(image.dataset.thumb);
      if (kept?.hasAttribute('src')) image.parentNode.replaceWith(kept.parentNode);
      else inSight.observe(image);
    }
  }

  function complain(message) {
    const place = $('#problem');
    if (place) Object.assign(place, {hidden: !message, textContent: message});
  }

  // A short message that goes away by itself.
  function say(message) {
    const place = $('#said');
    place.textContent = message;
    place.hidden = false;
    clearTimeout(say.timer);
    say.timer = setTimeout(() => { place.hidden = true; }, 2500);
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
  // A link may keep a part of the address that changed since the page was made.
  function hrefOf(link) {
    const [kept, address] = [link.dataset.keep, new URL(link.href)];
    const value = kept && new URLSearchParams(location.search).get(kept);
    if (value) address.searchParams.set(kept, value);
    return address.search;
  }
  const step = (id) => { waiting = waiting.then(() => {
    const link = document.getElementById(id);
    return link?.href ? go(link.href) : null;
  }); };

  document.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-go]');
    if (link) {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      if (link.matches('#list .item') && onPhone()) folded = null;  // the case is below the list
      if (link.dataset.go === 'step') step(link.id);
      else waiting = waiting.then(() => go(hrefOf(asItIsNow(link))));
      return;
    }
    // Gradio's page has a base address, so a link to a place of this page would leave the page.
    const place = event.target.closest('#browser a[href^="#"]');
    if (place) {
      event.preventDefault();
      const found = document.getElementById(place.getAttribute('href').slice(1));
      if (found) { found.tabIndex = -1; found.focus(); found.scrollIntoView(); }
      return;
    }
    const target = event.target.closest(
      '[data-copy], [data-theme], [data-help], [data-refresh], [data-credit], [data-big], '
      + '[data-fold], [data-print], [data-save-next], [data-save-view], [data-drop-view]');
    if (!target) return;
    const data = target.dataset;
    if ('copy' in data) copy(target);
    else if ('big' in data) project();
    else if ('fold' in data) fold($('#browser').dataset.side !== 'folded');
    else if ('print' in data) window.print();
    else if ('saveNext' in data) saveLabel(target.form, true);
    else if ('theme' in data) setTheme(!document.body.classList.contains('dark'));
    else if ('help' in data) help();
    else if ('refresh' in data) go(location.search, {history: 'replace', refresh: true});
    else if ('credit' in data) window.p2rTokens.setCredit(target);
    else if ('saveView' in data) saveView();
    else if ('dropView' in data) dropView(data.dropView);
  });

  // Projector mode is in the address, so that a link keeps it.
  // The focus is on the title: on the first button, a long list would open scrolled to its end.
  function help() {
    $('#help').showModal();
    $('#help-title').focus();
  }
  function project() {
    const query = new URLSearchParams(location.search);
    query.has('big') ? query.delete('big') : query.set('big', '1');
    folded = null;
    return go('?' + query, {history: 'replace'});
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
  let lastTyped = {name: '', time: 0};
  const formQuery = (form) => {
    const pairs = [...new FormData(form)].filter(([, value]) => value !== '');
    for (const range of form.querySelectorAll('[data-range]')) {
      const [low, high] = [...range.querySelectorAll('input')].map((i) => i.value);
      if (low || high) pairs.push([range.dataset.range, `${low}..${high}`]);
    }
    return '?' + new URLSearchParams(pairs);
  };
  const onForm = (event) => {
    const form = (event.target.form ?? event.target).closest?.('form[data-form]');  // a field may be outside of its form
    if (!form || event.target.matches('[data-links]')) return;
    clearTimeout(typing);
    const slow = event.type === 'input' && event.target.matches('input:not([type=checkbox])');
    // The letters of one word are one step back; everything else is a step of its own.
    const name = event.target.id;
    const goesOn = slow && lastTyped.name === name && Date.now() - lastTyped.time < 2000;
    lastTyped = {name: slow ? name : '', time: Date.now()};
    typing = setTimeout(() => go(formQuery(form), {history: goesOn ? 'replace' : 'push'}), slow ? 180 : 0);
  };
  document.addEventListener('input', onForm);
  document.addEventListener('change', (event) => {
    // A menu of addresses.
    if (event.target.matches?.('select[data-links]')) {
      const {value} = event.target;
      waiting = waiting.then(() => go(value));
      return;
    }
    if (event.target.matches?.('[data-smooth]')) {
      const query = new URLSearchParams(location.search);
      query.set('window', event.target.value);
      go('?' + query, {history: 'replace'});
      return;
    }
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

  // A random key of this browser. Two people with one name do not count as one.
  function key() {
    if (!store.get('key')) store.set('key', [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, '0')).join(''));
    return store.get('key');
  }
  async function saveLabel(form, then = false) {
    const said = $('.label-said', form);
    // A key that is pressed while a label is saved belongs to the next case.
    if (form.dataset.saving || !form.reportValidity()) return;
    const data = {...Object.fromEntries(new FormData(form)), case: form.dataset.case,
      blind: form.dataset.blind === '1', key: key()};
    data.annotator = data.annotator.trim();
    if (!data.annotator) { said.textContent = 'enter your name: a label needs an annotator'; return; }
    said.textContent = 'saving …';
    form.dataset.saving = '1';
    const sent = unsaved().map((field) => [field, field.value, field.checked]);
    try {
      const answer = await fetch('p2r/label', {method: 'POST', body: JSON.stringify(data),
        headers: {'content-type': 'application/json'}});
      if (!answer.ok) throw new Error(await answer.text());
      const {refused} = await answer.json();
      if (refused) { $('.confirm', form).hidden = false; throw new Error(refused); }
      store.set('annotator', data.annotator);
      for (const [field, value, checked] of sent) {
        for (const option of field.options ?? []) option.defaultSelected = option.value === value;
        if (!field.options) Object.assign(field, {defaultValue: value, defaultChecked: checked});
      }
      const next = then && $('#next-to-label');
      if (next) return void await go(next.href, {focus: 'article.case h2'});
      await go(location.search, {history: 'replace'});
      const after = $('.label-said');
      if (after) after.textContent = 'saved';
    } catch (error) {
      said.textContent = error.message;
    } finally { delete form.dataset.saving; }
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
    ' ': () => evidence.play() ?? null,
    ',': () => evidence.nudge(-1),
    '.': () => evidence.nudge(1),
    p: () => project(),
    e: () => $('#study-link')?.click(),
    s: () => $('[data-add-story]')?.click(),
    u: () => $('#undo-label')?.click(),
    1: () => choose(0), 2: () => choose(1), 3: () => choose(2),
    Enter: () => { const form = $('#label form');
      const labelling = document.activeElement?.closest('#label') || new URLSearchParams(location.search).has('blind');
      if (!form?.sufficient.value || !labelling) return null;
      return void saveLabel(form, true); },
    f: () => search(),
    '/': () => search(),
    c: () => $('#compare-link')?.click(),
    l: () => { const form = $('#label'); form?.scrollIntoView({block: 'center'});
      $('input[type=radio]:checked, input[type=radio]', form ?? document)?.focus(); return form; },
    '?': () => help(),
  };
  function choose(place) {
    const radio = document.querySelectorAll('#label input[type=radio]')[place];
    if (!radio) return null;
    if (radio.form.dataset.saving) return radio;
    radio.checked = true;
    radio.focus({preventScroll: true});
    return radio;
  }
  function search() {
    const box = $('#search');
    if (box && $('#browser').dataset.side === 'folded') fold(false);
    if (box) { box.focus(); box.select(); return; }
    const query = new URLSearchParams(location.search);
    query.set('tab', 'cases');
    go('?' + query).then(() => $('#search')?.focus());
  }
  document.addEventListener('keydown', (event) => {
    if (event.target.closest?.('[role=listbox]') && window.p2rTokens.move(event)) return;
    if (event.ctrlKey || event.metaKey || event.altKey || $('#help')?.open) return;
    if (event.target.closest?.('input, textarea, select, [contenteditable=true]')) {
      if (event.key === 'Escape') {
        if (event.target.type === 'search') event.preventDefault();  // it would clear the search
        event.target.blur();
      }
      // Enter in a text of the label form does what its button says: save, then next.
      if (event.key === 'Enter' && event.target.matches('#label input:not([type=radio], [type=checkbox])')) {
        event.preventDefault();
        return void saveLabel(event.target.form, true);
      }
      if (!event.target.matches('[type=radio], [type=range]') || event.key === ' ') return;
      if (event.key === 'Enter' && event.target.matches('[type=radio]')) event.preventDefault();
    }
    if ([' ', 'Enter'].includes(event.key) && event.target.closest?.('button, a, summary, video')) return;
    const act = keys[event.key];
    if (act && act() !== null) event.preventDefault();
  });

  // ---- the glossary: the meaning of a term, on hover and on focus

  const gloss = (event) => {
    const term = event.type !== 'focusout' && event.target.closest?.('.term[data-term]');
    const box = $('#gloss');
    if (!box) return;
    const meaning = term && $(`#help [data-meaning="${CSS.escape(term.dataset.term)}"]`)?.textContent;
    box.hidden = !meaning;
    if (!meaning) return;
    box.textContent = meaning;
    term.setAttribute('aria-describedby', 'gloss');
    const at = term.getBoundingClientRect();
    box.style.left = `${Math.max(8, Math.min(at.left, window.innerWidth - box.offsetWidth - 8))}px`;
    const above = at.bottom + box.offsetHeight + 8 > window.innerHeight;
    box.style.top = `${above ? at.top - box.offsetHeight - 6 : at.bottom + 6}px`;
  };
  for (const kind of ['pointerover', 'focusin', 'focusout', 'scroll']) document.addEventListener(kind, gloss, true);

  // ---- a stage that is running: counts and lists follow

  let count = 0;
  async function follow() {
    const busy = document.hidden || asking || unsaved().length
      || document.activeElement?.matches('input, textarea, select');
    if (!busy) try {
      const answer = await fetch('p2r/live');
      const now = answer.ok ? (await answer.json()).count : count;
      if (now !== count && $('#browser')?.dataset.tab !== 'ask' && !pressed && !asking)
        await go(location.search, {history: 'replace'});
    } catch { /* the server is not there: try again */ }
    setTimeout(follow, 3000);
  }

  const measure = new ResizeObserver(([top]) => {
    document.documentElement.style.setProperty('--top', `${top.target.offsetHeight}px`);
    showTab();
  });

  window.addEventListener('popstate', () => go(location.search, {history: 'replace'}));

  // Request the first page while Gradio is still loading.
  if (!document.querySelector('meta[name=login]')) {
    const query = location.search.slice(1);
    first = {query, answer: ask(query + '&refresh=1')};
    first.answer.catch(() => {});
  }
  return {
    start() {
      measure.observe($('#top'));
      stories.use({store, go, say, forget: () => { for (const name in parts) delete parts[name]; }});
      setTimeout(follow, 3000);
      const theme = store.get('theme');
      if (theme) document.body.classList.toggle('dark', theme === 'dark');
      go(location.search, {history: 'replace'});
    },
  };
})();
