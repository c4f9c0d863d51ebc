// The last minute as lines and areas; the newest sample is at the right edge.

const SECONDS = 60;
const GAP = 2; // seconds without a sample that are shown as a gap
const LABEL_GAP = 6; // between a label and its grid line

export const STAGES = [
  ["wait", "queue"],
  ["crop", "crop and box"],
  ["network", "network"],
  ["encode", "JPEG"],
];

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export const stageColour = (index) => `var(--stage-${index})`;

export function plotRate(canvas, samples) {
  plotLayers(canvas, samples, [["fps", style("--stage-1")]], (sample) => sample.fps);
}

export function plotLatency(canvas, samples) {
  const layers = STAGES.map(([stage], index) => [stage, style(`--stage-${index}`)]);
  plotLayers(canvas, samples, layers, (sample, stage) => sample.ms[stage] || 0);
}

function plotLayers(canvas, samples, layers, read) {
  const dots = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * dots);
  canvas.height = Math.round(height * dots);
  const pen = canvas.getContext("2d");
  pen.scale(dots, dots);
  const now = samples.length ? samples[samples.length - 1].at : 0;
  const shown = samples.filter((sample) => sample.at > now - SECONDS);
  const sums = shown.map((sample) => layers.reduce((sum, [name]) => sum + read(sample, name), 0));
  const top = roundUp(Math.max(...sums, 1));
  pen.font = "11px system-ui, sans-serif";
  const ticks = [0, top / 2, top];
  const left = LABEL_GAP + 2 + Math.max(...ticks.map((value) => pen.measureText(value).width));
  const place = {
    left,
    x: (at) => left + (1 - (now - at) / SECONDS) * (width - left - 2),
    y: (value) => height - 4 - (value / top) * (height - 14),
  };
  drawGrid(pen, place, ticks, width);
  for (const run of splitRuns(shown)) {
    let floor = run.map(() => 0);
    for (const [name, colour] of layers) {
      const roof = run.map((sample, index) => floor[index] + read(sample, name));
      drawArea(pen, place, run, floor, roof, colour, layers.length === 1);
      floor = roof;
    }
  }
}

function drawGrid(pen, place, ticks, width) {
  pen.strokeStyle = style("--grid");
  pen.fillStyle = style("--faint");
  pen.textAlign = "right";
  pen.lineWidth = 1;
  for (const value of ticks) {
    const y = Math.round(place.y(value)) + 0.5;
    pen.beginPath();
    pen.moveTo(place.left, y);
    pen.lineTo(width, y);
    pen.stroke();
    pen.fillText(String(value), place.left - LABEL_GAP, y + 3.5);
  }
}

function drawArea(pen, place, run, floor, roof, colour, line) {
  pen.beginPath();
  run.forEach((sample, index) => pen.lineTo(place.x(sample.at), place.y(roof[index])));
  if (line) {
    pen.strokeStyle = colour;
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.stroke();
  }
  for (let index = run.length - 1; index >= 0; index--) {
    pen.lineTo(place.x(run[index].at), place.y(floor[index]));
  }
  pen.globalAlpha = line ? 0.15 : 0.9;
  pen.fillStyle = colour;
  pen.fill();
  pen.globalAlpha = 1;
}

function splitRuns(samples) {
  const runs = [];
  samples.forEach((sample, index) => {
    if (!index || sample.at - samples[index - 1].at > GAP) runs.push([]);
    runs[runs.length - 1].push(sample);
  });
  return runs;
}

function roundUp(value) { // to 1, 2, 4, 6, 8 or 10 times a power of ten, so that half of it is round
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].find((step) => step * power >= value) * power;
}
