// The connection and everything around the picture; the server keeps all state.

import { STAGES, plotLatency, plotRate, stageColour } from "./plot.js";
import { Stage, colourOf } from "./stage.js";

const HISTORY_LENGTH = 120; // samples: a minute
const SILENCE_MS = 6000; // without a message, the connection counts as lost
const NOTICE_MS = 6000; // how long a notice is shown
const PHASES = { paused: "paused", ended: "ended", failed: "failed", stalled: "stalled", reconnecting: "reconnecting" };

const $ = (id) => document.getElementById(id);

let socket = null, state = null, samples = [], lastMessage = 0, attempts = 0, number = 0, noticeTimer = 0;
const pending = new Map(); // commands by id, until they are answered

const stage = new Stage($("stage"), $("picture"), $("overlay"), {
  seen: (head) => {
    post({ do: "seen", picture: head.picture });
    showTracks(head.tracks);
  },
  drawn: (picture, box) => ask("add", { picture, box }),
  mayDraw: () => {
    if (!state || !online()) return false;
    if (isOver()) {
      notify(`The source has ${state.phase}: restart it first`);
      return false;
    }
    if (state.targets.length < state.max_targets) return true;
    notify(`At most ${state.max_targets} targets: remove one first`);
    return false;
  },
});

// The connection

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  lastMessage = Date.now();
  socket.onopen = () => { attempts = 0; stage.reset(); };
  socket.onmessage = ({ data }) => {
    lastMessage = Date.now();
    if (typeof data === "string") handle(JSON.parse(data));
    else stage.show(data);
  };
  socket.onclose = ({ reason }) => {
    pending.clear();
    showPhase(reason || "offline");
    setTimeout(connect, Math.min(5000, 300 * 2 ** attempts++));
  };
}

setInterval(() => {
  if (socket && socket.readyState <= WebSocket.OPEN && Date.now() - lastMessage > SILENCE_MS) socket.close();
}, 1000);

const isOver = () => state.phase === "ended" || state.phase === "failed";

const online = () => socket && socket.readyState === WebSocket.OPEN;

function post(message) {
  if (online()) socket.send(JSON.stringify(message));
}

function ask(command, fields = {}) {
  number += 1;
  pending.set(number, command);
  post({ do: command, id: number, ...fields });
}

const handlers = {
  state: (event) => { state = event; showState(); },
  history: (event) => { samples = event.samples; showSamples(); },
  sample: (event) => {
    samples = [...samples, event].slice(-HISTORY_LENGTH);
    showSamples();
  },
  done: (event) => pending.delete(event.id),
  error: (event) => { pending.delete(event.id); notify(event.message); },
  heartbeat: () => {},
};

const handle = (event) => handlers[event.type](event);

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
addEventListener("resize", showSamples);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showSamples);

connect();
