// What lies over the points: rings around those that are marked, their titles, and the cross of the keyboard.

const GAP = 5; // between a ring and its title
const HALF = 8; // of a title's height

const LONGEST = 40; // letters of a title that is drawn

const short = (text) => {
  const letters = [...text];
  return letters.length > LONGEST ? `${letters.slice(0, LONGEST - 1).join("")}…` : text;
};

const apart = (a, b) => a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];

/** Where a title may stand: right of its ring, left, above, below. */
function boxes({ x, y, r }, wide) {
  return [
    [x + r + GAP, y],
    [x - r - GAP - wide, y],
    [x - wide / 2, y - r - GAP - HALF],
    [x - wide / 2, y + r + GAP + HALF],
  ].map(([left, middle]) => [left, middle - HALF, left + wide, middle + HALF]);
}

/**
 * Draw rings, and those of their titles that there is room for.
 *
 * @param c       what draws on the canvas
 * @param rings   [{x, y, r, title}] in pixels; the first, which matters most, always has its title
 * @param look    {w, h, dpr, font, ink, paper, cross}
 */
export function drawMarks(c, rings, { w, h, dpr, font, ink, paper, cross }) {
  c.setTransform(dpr, 0, 0, dpr, 0, 0);
  c.clearRect(0, 0, w, h);
  c.font = `12px ${font}`;
  c.lineJoin = "round";
  for (const { x, y, r } of [...rings].reverse()) {
    for (const [line, style] of [[r / 4 + 2.2, paper], [r / 4 - 0.25, ink]]) {
      c.beginPath();
      c.arc(x, y, r, 0, 2 * Math.PI);
      c.lineWidth = line;
      c.strokeStyle = style;
      c.stroke();
    }
  }
  const taken = rings.map(({ x, y, r }) => [x - r, y - r, x + r, y + r]);
  const inside = (box) => box[0] >= 0 && box[1] >= 0 && box[2] <= w && box[3] <= h;
  rings.forEach((ring, i) => {
    if (!ring.title) return;
    const title = short(ring.title);
    const within = boxes(ring, c.measureText(title).width).filter(inside);
    const box = within.find((each) => taken.every((other) => apart(each, other))) ?? (i ? null : within[0]);
    if (!box) return;
    taken.push(box);
    c.lineWidth = 4;
    c.strokeStyle = paper;
    c.strokeText(title, box[0], box[1] + HALF + 4);
    c.fillStyle = ink;
    c.fillText(title, box[0], box[1] + HALF + 4);
  });
  if (!cross) return;
  c.beginPath();
  c.moveTo(w / 2 - 8, h / 2);
  c.lineTo(w / 2 + 8, h / 2);
  c.moveTo(w / 2, h / 2 - 8);
  c.lineTo(w / 2, h / 2 + 8);
  c.lineWidth = 1;
  c.strokeStyle = ink;
  c.stroke();
}
