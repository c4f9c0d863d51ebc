// The connection and everything around the picture; the server holds all state.

import { STAGES, plotLatency, plotRate, stageColour } from "./plot.js";
import { Stage, colourOf } from "./stage.js";

const KEPT = 120; // samples: a minute
const SILENCE = 6000; // ms without a word after which the line is taken for dead
const NOTICE = 6000; // ms that a message of ours stays
const PHASES = { paused: "paused", ended: "ended", failed: "failed", stalled: "stalled", reconnecting: "reconnecting" };

const $ = (id) => document.getElementById(id);

let socket = null, state = null, samples = [], heard = 0, tries = 0, number = 0, noticeTimer = 0;
const asked = new Map();

const stage = new Stage($("stage"), $("picture"), $("overlay"), {
  seen: (head) => {
    post({ do: "seen", picture: head.picture });
    showTracks(head.tracks);
  },
  drawn: (picture, box) => ask("add", { picture, box }),
  mayDraw: () => {
    if (!state || !online()) return false;
    if (state.targets.length < state.most_targets) return true;
    notify(`${state.most_targets} targets at most: remove one first`);
    return false;
  },
});

// The line

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  heard = Date.now();
  socket.onopen = () => { tries = 0; stage.forget(); };
  socket.onmessage = ({ data }) => {
    heard = Date.now();
    if (typeof data === "string") hear(JSON.parse(data));
    else stage.show(data);
  };
  socket.onclose = ({ reason }) => {
    asked.clear();
    showPhase(reason || "offline");
    setTimeout(connect, Math.min(5000, 300 * 2 ** tries++));
  };
}

setInterval(() => {
  if (socket && socket.readyState <= WebSocket.OPEN && Date.now() - heard > SILENCE) socket.close();
}, 1000);

const online = () => socket && socket.readyState === WebSocket.OPEN;

function post(message) {
  if (online()) socket.send(JSON.stringify(message));
}

function ask(what, fields = {}) {
  number += 1;
  asked.set(number, what);
  post({ do: what, id: number, ...fields });
}

const ears = {
  state: (note) => { state = note; showState(); },
  history: (note) => { samples = note.samples; showSamples(); },
  sample: (note) => {
    samples = [...samples, note].slice(-KEPT);
    showSamples();
  },
  done: (note) => asked.delete(note.id),
  error: (note) => { asked.delete(note.id); notify(note.message); },
  beat: () => {},
};

const hear = (note) => ears[note.type](note);

// What is shown

function showState() {
  $("source").textContent = state.source;
  document.title = `${state.source} – relo-edge`;
  $("runtime").textContent = `Tracked by ${state.runtime}, up to ${state.most_targets} targets.`;
  showPhase(PHASES[state.phase] || (state.live ? "live" : "playing"));
  const over = state.phase === "ended" || state.phase === "failed";
  $("pause").textContent = state.phase === "paused" ? "Resume" : "Pause";
  $("pause").disabled = over;
  $("restart").disabled = false;
  $("record").textContent = state.recording ? "Stop" : "Record";
  $("record").classList.toggle("on", Boolean(state.recording));
  $("record").disabled = over;
  $("hint").hidden = state.targets.length > 0 || over;
  $("none").hidden = state.targets.length > 0;
  $("count").textContent = state.targets.length ? `${state.targets.length} of ${state.most_targets}` : "";
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
    const remove = make("button", { textContent: "×", title: `Stop following ${name}` });
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
    const share = `${Math.round((confidence || 0) * 100)}%`;
    row.querySelector(".sure").textContent = lost ? "lost" : share;
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
  noticeTimer = setTimeout(() => { $("notice").hidden = true; }, NOTICE);
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function showBytes(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

// What is pressed

$("pause").onclick = () => ask(state.phase === "paused" ? "resume" : "pause");
$("restart").onclick = () => ask("restart");
$("record").onclick = () => ask(state.recording ? "stop-recording" : "record");
$("clear").onclick = () => ask("clear");
addEventListener("resize", showSamples);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showSamples);

connect();
