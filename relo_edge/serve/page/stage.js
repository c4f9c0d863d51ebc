// The picture, the boxes on it, and the box being drawn with a finger or mouse.

const COLOURS = ["#3fd08a", "#4ea3ff", "#ffb020", "#e879f9", "#22d3ee", "#fb7185", "#a3e635", "#c4b5fd"];
const MIN_DRAG = 8; // screen pixels: less is a tap

export const colourOf = (target) => COLOURS[target % COLOURS.length];

export class Stage {
  constructor(frame, picture, overlay, { seen, drawn, mayDraw }) {
    Object.assign(this, { frame, picture, overlay, seen, drawn, mayDraw });
    this.head = null; // the header of the picture that is shown
    this.waiting = null; // the newest picture that came while a box was being drawn
    this.box = null; // the corners, in the frame's pixels
    this.held = false; // whether the picture stands still for the finder
    this.candidate = null; // the finder's box in it, in the frame's pixels
    this.pen = picture.getContext("2d");
    overlay.addEventListener("pointerdown", (event) => this.begin(event));
    overlay.addEventListener("pointermove", (event) => this.extend(event));
    overlay.addEventListener("pointerup", (event) => this.finish(event));
    overlay.addEventListener("pointercancel", () => this.cancel());
    addEventListener("keydown", (event) => event.key === "Escape" && this.cancel());
    new ResizeObserver(() => this.redraw()).observe(overlay);
  }

  reset() { // a new connection numbers its pictures from the start
    this.head = this.waiting = null;
    this.release();
  }

  hold() { // the finder is asked about the picture that is shown
    this.held = true;
  }

  offer(box) { // what the finder says, until it is confirmed, corrected or discarded
    this.candidate = box;
    this.redraw();
  }

  release() {
    this.held = false;
    this.candidate = null;
    this.cancel();
  }

  async show(message) {
    const length = new DataView(message).getUint32(0);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(message, 4, length)));
    const jpeg = new Blob([new Uint8Array(message, 4 + length)], { type: "image/jpeg" });
    const bitmap = await createImageBitmap(jpeg);
    if (this.box || this.held) this.waiting = { head, bitmap };
    else this.paint(head, bitmap);
  }

  paint(head, bitmap) {
    if (this.head && head.picture < this.head.picture) return;
    if (this.picture.width !== bitmap.width || this.picture.height !== bitmap.height) {
      this.picture.width = bitmap.width;
      this.picture.height = bitmap.height;
      this.frame.style.setProperty("--aspect", bitmap.width / bitmap.height);
    }
    this.pen.drawImage(bitmap, 0, 0);
    bitmap.close();
    this.head = head;
    this.redraw();
    // Not sent while a box is being drawn: so the server keeps the frame under it.
    this.seen(head);
  }

  // Drawing a box

  begin(event) {
    if (!this.head || this.box || event.button || !event.isPrimary || !this.mayDraw()) return;
    event.preventDefault();
    this.overlay.setPointerCapture(event.pointerId);
    const from = this.place(event);
    this.box = { from, to: from };
    this.redraw();
  }

  extend(event) {
    if (!this.box || !event.isPrimary) return;
    this.box.to = this.place(event);
    this.redraw();
  }

  finish(event) {
    if (!this.box || !event.isPrimary) return;
    this.box.to = this.place(event);
    const { from, to } = this.box;
    const box = [Math.min(from.x, to.x), Math.min(from.y, to.y), Math.abs(to.x - from.x), Math.abs(to.y - from.y)];
    const large = Math.min(box[2], box[3]) * this.scale() >= MIN_DRAG;
    if (large) this.drawn(this.head.picture, box);
    this.cancel();
  }

  cancel() {
    this.box = null;
    const waiting = this.held ? null : this.waiting;
    if (!this.held) this.waiting = null;
    if (waiting) this.paint(waiting.head, waiting.bitmap);
    else this.redraw();
  }

  place(event) { // the frame's pixel under the pointer, clamped to the frame
    const area = this.overlay.getBoundingClientRect();
    const [width, height] = this.head.size;
    const across = (event.clientX - area.left) / area.width;
    const down = (event.clientY - area.top) / area.height;
    return { x: Math.min(Math.max(across, 0), 1) * width, y: Math.min(Math.max(down, 0), 1) * height };
  }

  scale() { // screen pixels per frame pixel
    return this.overlay.clientWidth / this.head.size[0];
  }

  // Boxes

  redraw() {
    const { overlay } = this;
    const dots = devicePixelRatio || 1;
    overlay.width = Math.round(overlay.clientWidth * dots);
    overlay.height = Math.round(overlay.clientHeight * dots);
    this.frame.classList.toggle("empty", !this.head);
    if (!this.head) return;
    const pen = overlay.getContext("2d");
    pen.scale(dots, dots);
    for (const track of this.head.tracks) this.drawTrack(pen, track);
    if (this.candidate && !this.box) this.drawCandidate(pen);
    if (this.box) this.drawSelection(pen);
  }

  drawCandidate(pen) {
    const [x, y, width, height] = this.candidate.map((value) => value * this.scale());
    this.drawDashed(pen, [x, y, width, height]);
    this.drawLabel(pen, "this one?", x, y, "#fff");
  }

  drawTrack(pen, { target, name, box, confidence, lost }) {
    if (box.includes(null)) return;
    const scale = this.scale();
    const [x, y, width, height] = box.map((value) => value * scale);
    const colour = colourOf(target);
    pen.setLineDash(lost ? [7, 6] : []);
    pen.lineJoin = "round";
    for (const [style, line] of [["rgb(0 0 0 / .55)", 5], [colour, 2.5]]) {
      pen.strokeStyle = style;
      pen.lineWidth = line;
      pen.strokeRect(x, y, width, height);
    }
    pen.setLineDash([]);
    const state = lost ? "lost" : confidence === null ? "" : `${Math.round(confidence * 100)}%`;
    this.drawLabel(pen, `${name} ${state}`.trim(), x, y, colour);
  }

  drawLabel(pen, text, x, y, colour) {
    pen.font = "600 13px system-ui, sans-serif";
    const width = pen.measureText(text).width + 12;
    const left = Math.min(Math.max(x - 1, 0), Math.max(this.overlay.clientWidth - width, 0));
    const top = Math.min(Math.max(y - 23, 0), Math.max(this.overlay.clientHeight - 20, 0));
    pen.fillStyle = colour;
    pen.beginPath();
    pen.rect(left, top, width, 20);
    pen.fill();
    pen.fillStyle = "#0b0d10";
    pen.fillText(text, left + 6, top + 14.5);
  }

  drawSelection(pen) {
    const scale = this.scale();
    const { from, to } = this.box;
    const area = [from.x * scale, from.y * scale, (to.x - from.x) * scale, (to.y - from.y) * scale];
    this.drawDashed(pen, area);
  }

  drawDashed(pen, area) {
    pen.fillStyle = "rgb(255 255 255 / .18)";
    pen.fillRect(...area);
    pen.lineWidth = 2;
    pen.strokeStyle = "#000";
    pen.strokeRect(...area);
    pen.setLineDash([6, 5]);
    pen.strokeStyle = "#fff";
    pen.strokeRect(...area);
    pen.setLineDash([]);
  }
}
