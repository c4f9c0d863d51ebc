// The connection and everything around the picture; the server keeps all state.

import { Finding } from "./finding.js";
import { Line } from "./line.js";
import { STAGES, plotLatency, plotRate, stageColour } from "./plot.js";
import { Stage, colourOf } from "./stage.js";

const HISTORY_LENGTH = 120; // samples: a minute
const NOTICE_MS = 6000; // how long a notice is shown
const PHASES = { paused: "paused", ended: "ended", failed: "failed", stalled: "stalled", reconnecting: "reconnecting" };

const $ = (id) => document.getElementById(id);

let state = null, samples = [], number = 0, noticeTimer = 0;
const pending = new Map(); // commands by id, until they are answered

const stage = new Stage($("stage"), $("picture"), $("overlay"), {
  seen: (head) => {
    line.post({ do: "seen", picture: head.picture });
    showTracks(head.tracks);
  },
  drawn: (picture, box) => {
    ask("add", { picture, box });
    finding.end();
  },
  mayDraw: () => mayStart(),
});

const finding = new Finding(stage, { ask, mayStart });

function mayStart() { // one more target
  if (!state || !online()) return false;
  if (isOver()) {
    notify(`The source has ${state.phase}: restart it first`);
    return false;
  }
  if (state.targets.length < state.max_targets) return true;
  notify(`At most ${state.max_targets} targets: remove one first`);
  return false;
}

// The connection

const line = new Line("live", {
  opened: () => {
    finding.end();
    stage.reset();
  },
  event: (event) => handlers[event.type](event),
  picture: (data) => stage.show(data),
  closed: (reason) => {
    pending.clear();
    finding.end();
    showPhase(reason || "offline");
  },
});

const isOver = () => state.phase === "ended" || state.phase === "failed";

const online = () => line.online;

function ask(command, fields = {}) {
  number += 1;
  pending.set(number, command);
  line.post({ do: command, id: number, ...fields });
  return number;
}

const handlers = {
  state: (event) => { state = event; showState(); },
  history: (event) => { samples = event.samples; showSamples(); },
  sample: (event) => {
    samples = [...samples, event].slice(-HISTORY_LENGTH);
    showSamples();
  },
  done: (event) => pending.delete(event.id),
  finder: () => { $("find").hidden = false; },
  found: (event) => { pending.delete(event.id); finding.found(event.id, event.box); },
  error: (event) => {
    pending.delete(event.id);
    finding.refused(event.id);
    notify(event.message);
  },
  heartbeat: () => {},
};

// What is shown

function showState() {
  $("source").textContent = state.source;
  document.title = `${state.source} – relo-edge`;
  $("runtime").textContent = `Tracked by ${state.runtime}, up to ${state.max_targets} targets.`;
  showPhase(PHASES[state.phase] || (state.live ? "live" : "playing"));
  const over = isOver();
  $("pause").textContent = state.phase === "paused" ? "Resume" : "Pause";
  $("pause").disabled = over;
  $("restart").disabled = false;
  $("record").textContent = state.recording ? "Stop" : "Record";
  $("record").classList.toggle("on", Boolean(state.recording));
  $("record").disabled = over;
  $("hint").hidden = state.targets.length > 0 || over;
  $("none").hidden = state.targets.length > 0;
  $("count").textContent = state.targets.length ? `${state.targets.length} of ${state.max_targets}` : "";
  $("clear").hidden = state.targets.length < 2;
  showTargets();
  showFiles();
  if (state.notice) notify(state.notice);
}

function showPhase(phase) {
  $("phase").textContent = phase;
  $("phase").dataset.phase = online() ? phase : "offline";
  $("stage").classList.toggle("away", !online());
  if (!online()) for (const id of ["pause", "restart", "record"]) $(id).disabled = true;
}

function showTargets() {
  $("targets").replaceChildren(...state.targets.map(({ target, name }) => {
    const row = make("li", { id: `target-${target}` });
    const chip = make("span", { className: "chip" });
    const level = make("i");
    chip.style.background = level.style.background = colourOf(target);
    const bar = make("div", { className: "bar" }, level);
    const label = make("div", {}, make("div", { className: "name", textContent: name }), bar);
    const remove = make("button", { textContent: "×", title: `Stop tracking ${name}` });
    remove.setAttribute("aria-label", remove.title);
    remove.onclick = () => ask("remove", { target });
    row.append(chip, label, make("span", { className: "sure" }), remove);
    return row;
  }));
}

function showTracks(tracks) {
  for (const { target, confidence, lost } of tracks) {
    const row = $(`target-${target}`);
    if (!row) continue;
    row.classList.toggle("lost", lost);
    const told = confidence !== null;
    const share = `${Math.round((confidence || 0) * 100)}%`;
    row.querySelector(".sure").textContent = lost ? "lost" : told ? share : "not told";
    row.querySelector(".sure").title = told ? "" : "This tracker does not tell how sure it is.";
    row.querySelector(".bar").hidden = !told;
    row.querySelector(".bar i").style.width = share;
  }
}

function showFiles() {
  $("no-files").hidden = state.files.length + state.saving.length > 0;
  const saving = state.saving.map((name) => make("li", { textContent: `${name}: being saved …` }));
  $("files").replaceChildren(...saving, ...state.files.map(({ name, bytes }) => {
    const link = make("a", { href: `recordings/${encodeURIComponent(name)}`, download: name, textContent: name });
    return make("li", {}, link, make("span", { textContent: showBytes(bytes) }));
  }));
}

function showSamples() {
  plotRate($("fps-plot"), samples);
  plotLatency($("latency-plot"), samples);
  const last = samples[samples.length - 1];
  if (!last) return;
  $("fps").textContent = last.fps.toFixed(1);
  $("delay").textContent = typeof last.shown_ms === "number" ? `${Math.round(last.shown_ms)} ms` : "–";
  const sum = STAGES.reduce((total, [stageName]) => total + (last.ms[stageName] || 0), 0);
  $("total").textContent = `${sum.toFixed(1)} ms`;
  $("legend").replaceChildren(...STAGES.flatMap(([stageName, words], index) => {
    if (!(stageName in last.ms)) return [];
    const entry = make("li", { textContent: words }, make("b", { textContent: last.ms[stageName].toFixed(1) }));
    entry.style.setProperty("--colour", stageColour(index));
    return [entry];
  }));
}

function notify(text) {
  $("notice").textContent = text;
  $("notice").hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { $("notice").hidden = true; }, NOTICE_MS);
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function showBytes(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// Buttons

$("pause").onclick = () => ask(state.phase === "paused" ? "resume" : "pause");
$("restart").onclick = () => ask("restart");
$("record").onclick = () => ask(state.recording ? "stop-recording" : "record");
$("clear").onclick = () => ask("clear");
$("back").hidden = !location.pathname.includes("/sources/");
addEventListener("resize", showSamples);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showSamples);
