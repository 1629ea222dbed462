// Draws points: by WebGL 2, or on a plain canvas where there is none.

import { COLOURS, SHAPES, hollow, path } from "./genres.js";

const STRONG = 0.92; // opaqueness of a point
const GREY = 0.28; // of one that is not of a class that was chosen

const VERTEX = `#version 300 es
in vec2 place;
in float number;
uniform vec2 middle;
uniform vec2 scale;
uniform highp float size;
uniform vec3 colours[${COLOURS + 1}];
uniform uint hidden[8];
uniform uint chosen[8];
uniform bool choice;
uniform bool front;
flat out vec3 colour;
flat out int shape;
flat out int rimmed;
flat out float strength;
void main() {
  int n = int(number);
  uint bit = 1u << uint(n & 31);
  bool grey = choice && (chosen[n >> 5] & bit) == 0u;
  bool off = (hidden[n >> 5] & bit) != 0u || grey == front;
  gl_Position = off ? vec4(2.0, 2.0, 2.0, 1.0) : vec4((place - middle) * scale, 0.0, 1.0);
  gl_PointSize = size;
  colour = n == 255 || grey ? colours[${COLOURS}] : colours[n % ${COLOURS}];
  shape = n == 255 ? 0 : (n + n / 24) % ${SHAPES};
  rimmed = n == 255 ? 0 : n / 48 % 2;
  strength = grey ? ${GREY} : ${STRONG};
}`;

// Distances in a square from -1 to 1, about 0 at the shape's edge, in the shapes of genres.js.
const FRAGMENT = `#version 300 es
precision mediump float;
flat in vec3 colour;
flat in int shape;
flat in int rimmed;
flat in float strength;
uniform highp float size;
uniform vec3 ink;
uniform vec3 paper;
out vec4 drawn;
void main() {
  vec2 p = gl_PointCoord * 2.0 - 1.0;
  vec2 a = abs(p);
  float d;
  if (shape == 0) d = length(p) - 0.75;
  else if (shape == 1) d = max(a.x, a.y) - 0.66;
  else if (shape == 2) d = max(a.x * 0.87 - p.y * 0.5 - 0.38, p.y - 0.72);
  else if (shape == 3) d = (a.x + a.y - 0.92) * 0.71;
  else if (shape == 4) d = min(max(a.x - 0.28, a.y - 0.8), max(a.y - 0.28, a.x - 0.8));
  else d = max(a.x * 0.87 + p.y * 0.5 - 0.38, -p.y - 0.72);
  float edge = 2.0 / size;
  float inside = 1.0 - smoothstep(-edge, edge * 0.5, d);
  if (inside < 0.02) discard;
  float rim = smoothstep(-edge * 1.1, -edge * 0.3, d);
  vec3 full = mix(colour, mix(colour, ink, 0.4), rim * step(6.0, size));
  float hole = float(rimmed) * (1.0 - smoothstep(-0.26 - edge, -0.26, d));
  drawn = vec4(mix(full, paper, hole), strength * inside);
}`;

const rgb = (text) => {
  const hex = text.trim().replace("#", "");
  return [0, 2, 4].map((i) => Number.parseInt(hex.slice(i, i + 2), 16) / 255);
};

function palette(canvas) {
  const style = getComputedStyle(canvas);
  const names = [...Array(COLOURS).keys()].map((i) => `--c${i}`);
  return {
    colours: [...names, "--faint"].map((name) => rgb(style.getPropertyValue(name))),
    paper: rgb(style.getPropertyValue("--paper")),
    ink: rgb(style.getPropertyValue("--ink")),
  };
}

/** Pixels of a point: more where there are few points, or where one is near. */
const sizeOf = (n, zoom) => Math.min(16, (n > 20000 ? 4.5 : n > 3000 ? 7 : 10) * Math.min(2.2, Math.max(1, zoom) ** 0.3));

/**
 * What draws the points on a canvas: {by, draw(view, scale, dpr, hidden, chosen), end()}.
 *
 * Classes that are `hidden` are not drawn. If any are `chosen`, the others are grey and lie behind them.
 */
export function painter(canvas, points) {
  const gl = canvas.getContext("webgl2", { antialias: false, preserveDrawingBuffer: true, powerPreference: "low-power" });
  return gl ? byWebGL(canvas, gl, points) : onCanvas(canvas, points);
}

function byWebGL(canvas, gl, points) {
  let program;
  let where;

  function compiled(kind, source) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    return shader;
  }

  function begin() {
    program = gl.createProgram();
    gl.attachShader(program, compiled(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, compiled(gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`The map's shaders do not compile: ${gl.getProgramInfoLog(program)}`);
    }
    gl.useProgram(program);
    for (const [name, data, width, kind] of [
      ["place", points.places, 2, gl.FLOAT],
      ["number", points.of, 1, gl.UNSIGNED_BYTE],
    ]) {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      const at = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, width, kind, false, 0, 0);
    }
    where = Object.fromEntries(
      ["middle", "scale", "size", "colours", "hidden", "chosen", "choice", "front", "ink", "paper"].map((name) => [name, gl.getUniformLocation(program, name)]),
    );
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  const bits = (numbers) => {
    const found = new Uint32Array(8);
    for (const number of numbers) found[number >> 5] |= 1 << (number & 31);
    return found;
  };

  let last = null;
  function draw(view, scale, dpr, hidden, chosen) {
    last = [view, scale, dpr, hidden, chosen];
    if (gl.isContextLost()) return;
    const { colours, paper, ink } = palette(canvas);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...paper, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(where.middle, view.x, view.y);
    gl.uniform2f(where.scale, (2 * scale * dpr) / canvas.width, (2 * scale * dpr) / canvas.height);
    gl.uniform1f(where.size, sizeOf(points.n, view.zoom) * dpr);
    gl.uniform3fv(where.colours, colours.flat());
    gl.uniform3fv(where.ink, ink);
    gl.uniform3fv(where.paper, paper);
    gl.uniform1uiv(where.hidden, bits(hidden));
    gl.uniform1uiv(where.chosen, bits(chosen));
    gl.uniform1i(where.choice, chosen.size);
    for (const front of chosen.size ? [0, 1] : [1]) {
      gl.uniform1i(where.front, front);
      gl.drawArrays(gl.POINTS, 0, points.n);
    }
  }

  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => {
    begin();
    if (last) draw(...last);
  });
  begin();
  return { by: "webgl", draw, end: () => gl.getExtension("WEBGL_lose_context")?.loseContext() };
}

/** A point as a picture of its own, `size` pixels a side. */
function stamp(number, size, { colours, paper, ink }, grey) {
  const css = (each) => `rgb(${each.map((x) => Math.round(255 * x)).join(" ")})`;
  const picture = document.createElement("canvas");
  picture.width = picture.height = Math.ceil(size);
  const c = picture.getContext("2d");
  const none = number === 255;
  const colour = none || grey ? colours[COLOURS] : colours[number % COLOURS];
  const outline = new Path2D(path(none ? 0 : number));
  c.scale(size / 16, size / 16);
  c.globalAlpha = grey ? GREY : STRONG;
  c.fillStyle = css(!none && hollow(number) ? paper : colour);
  c.fill(outline);
  if (!none && hollow(number)) {
    c.clip(outline);
    c.lineWidth = 4.2; // of which the outer half is clipped
    c.strokeStyle = css(colour);
    c.stroke(outline);
  } else if (size >= 6) {
    c.clip(outline);
    c.lineWidth = 32 / size;
    c.strokeStyle = css(colour.map((x, i) => 0.6 * x + 0.4 * ink[i]));
    c.stroke(outline);
  }
  return picture;
}

function onCanvas(canvas, points) {
  const c = canvas.getContext("2d");
  return {
    by: "canvas",
    end() {},
    draw(view, scale, dpr, hidden, chosen) {
      const look = palette(canvas);
      const size = sizeOf(points.n, view.zoom) * dpr;
      c.fillStyle = `rgb(${look.paper.map((x) => Math.round(255 * x)).join(" ")})`;
      c.fillRect(0, 0, canvas.width, canvas.height);
      const isGrey = (number) => chosen.size > 0 && !chosen.has(number);
      const stamps = new Map();
      for (const grey of chosen.size ? [true, false] : [false]) {
        for (let i = 0; i < points.n; i++) {
          const number = points.of[i];
          if (hidden.has(number) || isGrey(number) !== grey) continue;
          const x = canvas.width / 2 + (points.places[2 * i] - view.x) * scale * dpr;
          const y = canvas.height / 2 - (points.places[2 * i + 1] - view.y) * scale * dpr;
          if (x < -size || y < -size || x > canvas.width + size || y > canvas.height + size) continue;
          if (!stamps.has(number)) stamps.set(number, stamp(number, size, look, grey));
          c.drawImage(stamps.get(number), x - size / 2, y - size / 2);
        }
      }
    },
  };
}
