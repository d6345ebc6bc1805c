// Draws the curves. The server sends the figures; Plotly is loaded with the first page of curves.
window.p2rPlots = (() => {
  'use strict';
  let library = null;
  let timer = null;
  const load = () => library ??= new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = 'p2r/plotly.js';
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { library = null; reject(new Error('Plotly could not be loaded')); };
    document.head.append(script);
  });
  const colour = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
  const root = () => parseFloat(getComputedStyle(document.documentElement).fontSize);
  const look = () => {
    const [ink, line] = [colour('--soft'), colour('--line')];
    const axis = {gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: {color: ink}};
    return {axis, ink, layout: {
      paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
      font: {color: ink, family: 'system-ui, sans-serif', size: 0.875 * root()},
      legend: {orientation: 'h', y: -0.28, x: 0}, showlegend: true, hovermode: 'x unified',
      hoverlabel: {bgcolor: colour('--card'), font: {color: colour('--ink')}},
      margin: {l: 48, r: 12, t: 8, b: 40}, height: 17 * root(), title: null}};
  };
  const config = {displaylogo: false, responsive: true, displayModeBar: false};
  function layoutOf(figure) {
    const {axis, ink, layout} = look();
    const titled = (given) => ({...given, ...axis, automargin: true,
      title: {text: given?.title?.text ?? '', font: {color: ink, size: 0.8125 * root()}, standoff: 6}});
    return {...figure.layout, ...layout, template: undefined,
      xaxis: titled(figure.layout.xaxis), yaxis: titled(figure.layout.yaxis)};
  }

  // ---- smoothing: a running mean in front of the faint values of every step

  const slider = () => document.querySelector('[data-smooth]');
  const chosen = () => Number(slider()?.value) || 1;
  function say() {
    const box = slider();
    const steps = chosen();
    if (!box) return;
    box.nextElementSibling.textContent = steps > 1 ? `mean of ${steps} steps` : 'off';
    box.setAttribute('aria-valuetext', box.nextElementSibling.textContent);
  }
  const runningMean = (values, steps) => values.map((_, end) => {
    const known = values.slice(Math.max(0, end + 1 - steps), end + 1).filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  });
  const isCurve = (trace) => trace.type === 'scatter' && trace.mode?.startsWith('lines') && Array.isArray(trace.y);
  function smoothed(traces, steps) {
    if (steps < 2 || !traces.some(isCurve)) return traces;
    const group = (trace, place) => ({...trace, legendgroup: `${place}`});
    const faint = traces.map(group).filter(isCurve).map((trace) => ({...trace, mode: 'lines', opacity: 0.3,
      line: {...trace.line, width: 1}, showlegend: false, hoverinfo: 'skip'}));
    const means = traces.map(group).map((trace) => isCurve(trace)
      ? {...trace, mode: 'lines', line: {...trace.line, width: 2.5}, y: runningMean(trace.y, steps)} : trace);
    return [...faint, ...means];
  }
  const paint = (plot) => window.Plotly.react(plot, smoothed(plot.figure.data, chosen()), layoutOf(plot.figure), config);
  // Figures in sight come first, one at a time, so that the slider does not wait for the others.
  let latest = 0;
  async function repaint() {
    const mine = ++latest;
    const plots = [...document.querySelectorAll('.plot')].filter((plot) => plot.figure && window.Plotly);
    const isSeen = (plot) => { const {top, bottom} = plot.getBoundingClientRect(); return bottom > 0 && top < window.innerHeight; };
    for (const plot of [...plots.filter(isSeen), ...plots.filter((plot) => !isSeen(plot))]) {
      if (mine !== latest || !plot.isConnected) return;
      paint(plot);
      await new Promise((done) => setTimeout(done));
    }
  }
  document.addEventListener('input', (event) => {
    if (!event.target.matches('[data-smooth]')) return;
    say();
    repaint();
  });

  function element(tag, className, text) {
    const made = document.createElement(tag);
    made.className = className;
    if (text) made.textContent = text;
    return made;
  }

  async function draw(place, page) {
    await load();
    if (!place.isConnected) return;
    const live = document.querySelector('[data-live]');
    if (live) { live.textContent = page.live ? 'live: a stage is running' : ''; live.classList.toggle('on', page.live); }
    if (!page.sections.length) {
      place.replaceChildren(element('p', 'empty', 'No stage of this run has written metrics yet.'));
      return;
    }
    const known = new Map([...place.querySelectorAll('.plot')].map((plot) => [plot.dataset.name, plot]));
    const blocks = page.sections.map((section) => {
      const block = element('section', 'stage');
      block.append(element('h3', '', (section.label ?? section.stage) + (section.steps ? ` · step ${section.steps}` : '')));
      const grid = element('div', 'plots');
      const flat = element('details', 'section-fold');
      flat.append(element('summary', '', 'curves that are 0 at every step'));
      const flatGrid = element('div', 'plots');
      flat.append(flatGrid);
      for (const {title, figure, wide, flat: isFlat} of section.figures) {
        const name = `${section.stage}/${title}`;
        const card = element('figure', 'card plotcard' + (wide ? ' wide' : ''));
        const caption = element('figcaption', '', title);
        const plot = known.get(name) ?? element('div', 'plot');
        plot.dataset.name = name;
        plot.setAttribute('role', 'img');
        plot.setAttribute('aria-label', `${title}, ${section.stage}`);
        plot.figure = figure;
        card.append(caption, plot);
        (isFlat ? flatGrid : grid).append(card);
      }
      block.append(grid);
      if (flatGrid.children.length) block.append(flat);
      return block;
    });
    place.replaceChildren(...blocks);
    repaint();
  }

  async function poll() {
    clearTimeout(timer);
    const place = document.querySelector('[data-figures]');
    if (!place) return;
    let wait = place.dataset.writing ? 3000 : 15000;
    try {
      const since = place.dataset.stamp ? '&since=' + encodeURIComponent(place.dataset.stamp) : '';
      const answer = await fetch(place.dataset.figures + since);
      if (answer.status === 200) {
        const page = await answer.json();
        place.dataset.stamp = page.stamp;
        place.dataset.writing = page.live ? '1' : '';
        if (page.live) wait = 3000;
        await draw(place, page);
      }
    } catch (error) {
      place.dataset.stamp = '';  // so that the next answer is drawn
      place.replaceChildren(element('p', 'empty', 'The curves could not be loaded: ' + error.message));
    }
    if (place.isConnected) timer = setTimeout(poll, wait);
  }
  return {
    watch() {
      const place = document.querySelector('[data-figures]');
      if (!place || place.dataset.stamp) return;
      slider().value = new URLSearchParams(location.search).get('window') ?? 1;
      say();
      poll();
    },
    restyle: repaint,
  };
})();
