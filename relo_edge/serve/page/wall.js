// The wall: a small live picture of each source; a click opens the source's own page.

import { Line } from "./line.js";
import { Stage } from "./stage.js";

const LOOK_MS = 2000; // how often the list of sources is read

const $ = (id) => document.getElementById(id);
const tiles = new Map(); // by source

class Tile {
  constructor(name) {
    this.phase = make("span", { className: "pill", textContent: "connecting" });
    this.rate = make("span", { className: "rate" });
    this.frame = make("div", { className: "tile empty" });
    const [picture, overlay] = [make("canvas"), make("canvas")];
    this.frame.append(picture, overlay);
    const caption = make("div", { className: "caption" }, make("strong", { textContent: name }), this.rate, this.phase);
    const link = make("a", { href: `sources/${encodeURIComponent(name)}/` }, this.frame, caption);
    this.row = make("li", { id: `tile-${name}` }, link);
    const stage = new Stage(this.frame, picture, overlay, {
      seen: (head) => this.line.post({ do: "seen", picture: head.picture }),
      drawn: () => {},
      mayDraw: () => false,
    });
    this.line = new Line(`sources/${encodeURIComponent(name)}/live?small`, {
      opened: () => { stage.reset(); this.frame.classList.remove("away"); },
      event: (event) => this.handle(event),
      picture: (data) => stage.show(data),
      closed: (reason) => { this.showPhase(reason || "offline"); this.frame.classList.add("away"); },
    });
  }

  handle(event) {
    if (event.type === "state") this.showPhase(event.phase === "running" ? (event.live ? "live" : "playing") : event.phase);
    if (event.type === "sample") this.rate.textContent = `${event.fps.toFixed(1)} FPS`;
  }

  showPhase(phase) {
    this.phase.textContent = this.phase.dataset.phase = phase;
  }

  remove() {
    this.line.end();
    this.row.remove();
  }
}

async function look() {
  try {
    const answer = await fetch("sources");
    if (!answer.ok) throw new Error(answer.statusText);
    show((await answer.json()).sources);
    showPhase("live");
  } catch {
    showPhase("offline");
  }
  setTimeout(look, LOOK_MS);
}

function show(names) {
  for (const [name, tile] of tiles) {
    if (names.includes(name)) continue;
    tile.remove();
    tiles.delete(name);
  }
  for (const name of names) {
    if (tiles.has(name)) continue;
    tiles.set(name, new Tile(name));
    $("wall").append(tiles.get(name).row);
  }
  $("source").textContent = `${names.length} sources`;
}

function showPhase(phase) {
  $("phase").textContent = $("phase").dataset.phase = phase;
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

look();
