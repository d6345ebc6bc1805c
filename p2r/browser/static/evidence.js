// Links sentences, frames and times both ways, and runs the player. Also part of exported sites.
window.p2rEvidence = (() => {
  'use strict';
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const video = () => document.querySelector('video.player');
  // The last answer of the Ask tab stays in the page while a case is shown.
  const shownOf = (selector) => all(selector).filter((part) => part.checkVisibility());
  const frames = () => shownOf('[data-frame-time]');
  const sentences = () => shownOf('[data-sentence]');
  const timesOf = (sentence) => (sentence.dataset.times || '').split(' ').filter(Boolean).map(Number);

  // The frame that shows a time: the last one that is not later.
  function frameAt(time, shown = frames()) {
    return shown.filter((frame) => Number(frame.dataset.frameTime) <= time + 0.02).at(-1) ?? shown[0];
  }
  // A sentence with one time is about one frame; with several, about all between them.
  function framesOf(sentence) {
    const times = timesOf(sentence);
    const shown = frames();
    if (!times.length || !shown.length) return [];
    const [from, to] = [Math.min(...times), Math.max(...times)].map((time) => shown.indexOf(frameAt(time, shown)));
    return shown.slice(from, to + 1);
  }
  const observed = (number) => sentences().find((sentence) => sentence.dataset.sentence === number);

  function light(target) {
    for (const lit of all('.lit')) lit.classList.remove('lit');
    const sentence = target?.closest('[data-sentence]');
    const frame = target?.closest('[data-frame-time]');
    const resting = target?.closest('[data-rests]');
    if (sentence) {
      for (const each of [sentence, ...framesOf(sentence)]) each.classList.add('lit');
      for (const each of all(`[data-rests="${sentence.dataset.sentence}"]`)) each.classList.add('lit');
    } else if (frame) {
      frame.classList.add('lit');
      for (const each of sentences()) if (framesOf(each).includes(frame)) each.classList.add('lit');
    } else if (resting) {
      const ground = observed(resting.dataset.rests);
      resting.classList.add('lit');
      if (ground) for (const each of [ground, ...framesOf(ground)]) each.classList.add('lit');
    }
  }
  for (const kind of ['pointerover', 'focusin']) document.addEventListener(kind, (event) => {
    const target = event.target.closest?.('[data-sentence], [data-frame-time], [data-rests]');
    if (target || document.querySelector('.lit')) light(target);
  });

  // Shows a moment. With `told`, the sentence that tells it, the player says so and comes in sight.
  function seek(time, told = null) {
    const player = video();
    if (player) { player.pause(); player.currentTime = time; }
    mark(time);
    const moment = player?.parentElement.querySelector('[data-moment]');
    if (moment) Object.assign(moment, {hidden: !told, textContent: told ? `at ${time} s: ${words(told)}` : ''});
    if (!told || !player) return;
    light(told);
    const box = player.closest('.player-box').getBoundingClientRect();
    const top = document.querySelector('#nav')?.getBoundingClientRect().bottom ?? 0;
    if (box.top < top || box.bottom > window.innerHeight) window.scrollBy({top: box.top - top - 8});
  }
  // A sentence without its number and its mark.
  function words(sentence) {
    const copy = sentence.cloneNode(true);
    for (const part of all('.number, .truth-mark', copy)) part.remove();
    return copy.textContent.trim();
  }
  function mark(time) {
    const at = frameAt(time);
    for (const frame of frames()) frame.classList.toggle('at', frame === at);
  }

  // Marks below the frames: the times that the observation names.
  function drawTrack() {
    const track = document.querySelector('[data-track]');
    const shown = frames();
    if (!track || !shown.length) return;
    const duration = video()?.duration || 0;
    const end = Math.max(Number.isFinite(duration) ? duration : 0, ...shown.map((frame) => Number(frame.dataset.frameTime)));
    const marks = sentences().flatMap((sentence) => timesOf(sentence).map((time) => {
      const made = document.createElement('button');
      Object.assign(made, {type: 'button', className: 'at', textContent: '△', tabIndex: -1});
      made.title = `${time} s: ${sentence.textContent.trim().slice(0, 160)}`;
      made.setAttribute('aria-label', made.title);
      made.dataset.seek = time;
      made.style.left = `${Math.min(100, 100 * time / (end || 1))}%`;
      return made;
    }));
    track.replaceChildren(...marks);
    track.hidden = !marks.length;
  }

  // ---- the player

  // `play` fails with an AbortError if the user pauses before the first frame. Ignore that error.
  function interrupted(error) { if (error.name !== 'AbortError') throw error; }
  function play() {
    const player = video();
    if (player?.paused) player.play().catch(interrupted);
    else player?.pause();
    return player;
  }
  function nudge(steps) {
    const player = video();
    if (!player) return;
    const rate = Number(player.dataset.fps) || 8;
    player.pause();
    player.currentTime = Math.max(0, Math.min(player.duration || 0, (Math.round(player.currentTime * rate) + steps) / rate));
  }
  function follow(player) {
    const box = player.closest('.player-box');
    if (!box) return;
    const scrub = box.querySelector('[data-scrub]');
    if (player.duration && document.activeElement !== scrub) scrub.value = 1000 * player.currentTime / player.duration;
    box.querySelector('.clock').textContent = `${player.currentTime.toFixed(2)} s`;
    box.querySelector('[data-play]').textContent = player.paused ? '▶' : '❚❚';
  }
  for (const kind of ['timeupdate', 'play', 'pause', 'loadedmetadata', 'seeked'])
    document.addEventListener(kind, (event) => {
      if (!event.target.matches?.('video.player')) return;
      if (kind === 'loadedmetadata') {
        event.target.classList.toggle('pixelated', event.target.videoWidth < 160);
        drawTrack();
      }
      if (kind === 'play') for (const moment of all('[data-moment]')) moment.hidden = true;
      follow(event.target);
      if (!event.target.paused || kind === 'timeupdate' || kind === 'seeked') mark(event.target.currentTime + 0.001);
    }, true);
  document.addEventListener('error', (event) => {
    const note = event.target.matches?.('video.player') && event.target.nextElementSibling;
    if (note) note.hidden = false;
  }, true);
  document.addEventListener('input', (event) => {
    const player = video();
    if (!player) return;
    if (event.target.matches('[data-scrub]') && player.duration) player.currentTime = player.duration * event.target.value / 1000;
    if (event.target.matches('[data-speed]')) player.playbackRate = Number(event.target.value);
  });
  document.addEventListener('click', (event) => {
    const target = event.target.closest('[data-seek], [data-play], [data-nudge], figure[data-frame-time]');
    if (!target) return;
    if ('seek' in target.dataset) {
      const time = Number(target.dataset.seek);
      const told = sentences().find((sentence) => timesOf(sentence).includes(time));
      seek(time, target.closest('[data-sentence]') ?? (target.closest('[data-track]') && told));
    }
    else if ('play' in target.dataset) play();
    else if ('nudge' in target.dataset) nudge(Number(target.dataset.nudge));
    else seek(Number(target.dataset.frameTime));
  });
  return {play, nudge, seek, drawTrack};
})();
