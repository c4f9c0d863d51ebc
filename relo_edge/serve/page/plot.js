// The last minute as lines and areas; the newest sample is at the right edge.

const SECONDS = 60;
const GAP = 2; // seconds without a sample that are shown as a gap
const LEFT = 34;

export const STAGES = [
  ["wait", "waiting"],
  ["crop", "crop, box"],
  ["network", "network"],
  ["encode", "picture"],
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
  const place = {
    x: (at) => LEFT + (1 - (now - at) / SECONDS) * (width - LEFT - 2),
    y: (value) => height - 4 - (value / top) * (height - 14),
  };
  drawGrid(pen, place, top, width);
  for (const run of splitRuns(shown)) {
    let floor = run.map(() => 0);
    for (const [name, colour] of layers) {
      const roof = run.map((sample, index) => floor[index] + read(sample, name));
      drawArea(pen, place, run, floor, roof, colour, layers.length === 1);
      floor = roof;
    }
  }
}

function drawGrid(pen, place, top, width) {
  pen.strokeStyle = style("--grid");
  pen.fillStyle = style("--faint");
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "right";
  pen.lineWidth = 1;
  for (const value of [0, top / 2, top]) {
    const y = Math.round(place.y(value)) + 0.5;
    pen.beginPath();
    pen.moveTo(LEFT, y);
    pen.lineTo(width, y);
    pen.stroke();
    pen.fillText(String(value), LEFT - 6, y + 3.5);
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
